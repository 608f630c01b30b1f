// SPDX-License-Identifier: Apache-2.0
//
// The catalog: which compositions a host is compiled with, and how a spec becomes one of them.
//
//   Catalog catalog = standard_catalog();
//   catalog.add<Greeting>("greeting");
//   catalog.add<Union<Memory, Greeting>>("union(memory, greeting...)");
//   auto filesystem = catalog.build("union(memory, greeting)");
//
// The pattern mirrors the type; "..." behind the last layer stands for one or more of it. The
// options in the spec become the stack's Config by `FromSpec<S>`: a libservice of one's own has
// either no options (its Config is default-made) or the member
//
//   static absl::StatusOr<Config> config_from(SpecArguments& arguments);
//
// or, for a type that one does not own or a layer template, a specialisation of FromSpec.
// An option or path that nobody took is an error that names those which are known.
// THREADS: fill a catalog from one thread; `build` may run at once.
#ifndef LIBSERVICES_CATALOG_H_
#define LIBSERVICES_CATALOG_H_

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "libservices/any_filesystem.h"
#include "libservices/filesystem_of.h"
#include "libservices/libservice.h"
#include "libservices/spec.h"

namespace libservices {

// One node of a spec while its Config is made: what was taken is known, the rest is an error.
class SpecArguments {
 public:
  explicit SpecArguments(const Spec& spec) : spec_(&spec), taken_(spec.options.size(), false) {}

  const Spec& spec() const { return *spec_; }

  // The path behind ':'. ERRORS: InvalidArgument when there is none, or it is not absolute.
  absl::StatusOr<std::string> path();

  // Stores the option's value, and leaves `into` as it is when the option is not given.
  // Numbers take K, M, G (powers of 1024); durations ns, us, ms, s; flags true and false.
  absl::Status take(std::string_view key, std::string& into);
  absl::Status take(std::string_view key, bool& into);
  absl::Status take(std::string_view key, std::uint64_t& into);
  absl::Status take(std::string_view key, std::uint32_t& into);
  absl::Status take(std::string_view key, double& into);
  absl::Status take(std::string_view key, std::chrono::nanoseconds& into);

  // `on` or `off`, for features that can be switched; true and false are taken as well.
  absl::Status take_switch(std::string_view key, bool& into);
  // A number of bytes, 1 at least, with K, M or G if wanted; nothing for `off`.
  absl::Status take_size(std::string_view key, std::optional<std::uint64_t>& into);
  // One of the words: `take_choice("marks", {{"overlay", Marks::kOverlay}, …}, config.marks)`.
  template <class T>
  absl::Status take_choice(
      std::string_view key,
      std::initializer_list<std::pair<std::string_view, std::type_identity_t<T>>> choices,
      T& into) {
    std::string words;
    const SpecOption* option = find(key);
    if (option == nullptr) return absl::OkStatus();
    for (const auto& [word, value] : choices) {
      if (option->value == word) {
        into = value;
        return absl::OkStatus();
      }
      words.append(words.empty() ? "write " : " or ").append(word);
    }
    return value_error(key, words);
  }

  std::size_t layers() const { return spec_->layers.size(); }

  bool has(std::string_view key) const { return given(key) != nullptr; }

  // An error that points at this node.
  absl::Status error(std::string_view why, std::string_view mend) const;
  // An error that points at the option and says that its value is none. REQUIRES: has(key).
  absl::Status value_error(std::string_view key, std::string_view mend) const;

  // What is left over: options nobody took, a path or layers that nobody asked for.
  absl::Status finish(bool uses_layers) const;

 private:
  const SpecOption* given(std::string_view key) const;
  const SpecOption* find(std::string_view key);  // and it counts as taken

  const Spec* spec_;
  std::vector<bool> taken_;  // one for each option
  std::vector<std::string> known_;
  bool path_taken_ = false;
};

template <class S>
concept HasConfigFrom = requires(SpecArguments& arguments) {
  { S::config_from(arguments) } -> std::same_as<absl::StatusOr<typename S::Config>>;
};

// How the Config of `S` comes from a node of a spec. kLayers: whether it looks at the node's
// layers, which it hands on with config_of<Below>(spec.layers[i]).
template <class S>
struct FromSpec {
  static_assert(HasConfigFrom<S> || std::default_initializable<typename S::Config>,
                "give S a member `static absl::StatusOr<Config> config_from(SpecArguments&)`, or "
                "specialise libservices::FromSpec<S>");
  static constexpr bool kLayers = false;

  static absl::StatusOr<typename S::Config> config(SpecArguments& arguments) {
    if constexpr (HasConfigFrom<S>) {
      return S::config_from(arguments);
    } else {
      return typename S::Config{};
    }
  }
};

// The Config of `S`, with every option of `spec` used.
template <class S>
absl::StatusOr<typename S::Config> config_of(SpecArguments& arguments) {
  absl::StatusOr<typename S::Config> config = FromSpec<S>::config(arguments);
  if (!config.ok()) return config;
  if (absl::Status rest = arguments.finish(FromSpec<S>::kLayers); !rest.ok()) return rest;
  return config;
}

template <class S>
absl::StatusOr<typename S::Config> config_of(const Spec& spec) {
  SpecArguments arguments(spec);
  return config_of<S>(arguments);
}

// Options of `Filesystem` itself, which the outermost node of any spec may have.
absl::StatusOr<FilesystemOptions> take_filesystem_options(SpecArguments& arguments);

class Catalog {
 public:
  using Factory = std::function<absl::StatusOr<std::unique_ptr<AnyFilesystem>>(const Spec&)>;

  // REQUIRES: `pattern` is a spec of names alone, perhaps with "..." behind a last layer.
  template <ReadableService S>
  void add(std::string_view pattern) {
    add(pattern, [](const Spec& spec) -> absl::StatusOr<std::unique_ptr<AnyFilesystem>> {
      SpecArguments arguments(spec);
      absl::StatusOr<FilesystemOptions> options = take_filesystem_options(arguments);
      if (!options.ok()) return options.status();
      absl::StatusOr<typename S::Config> config = config_of<S>(arguments);
      if (!config.ok()) return config.status();
      return std::make_unique<FilesystemOf<S>>(*std::move(config), *options);
    });
  }
  void add(std::string_view pattern, Factory factory);

  // The filesystem of a spec, not started. ERRORS: InvalidArgument, for a person to read.
  absl::StatusOr<std::unique_ptr<AnyFilesystem>> build(const Spec& spec) const;
  absl::StatusOr<std::unique_ptr<AnyFilesystem>> build(std::string_view spec) const;

  // The patterns, in the order in which they were added.
  std::vector<std::string> patterns() const;

 private:
  struct Composition {
    std::string pattern;
    Spec tree;
    Factory make;
  };

  std::vector<Composition> compositions_;
};

// What the command `libservices` has. Building on it costs the compilation of nothing: the stacks
// are compiled in the library.
Catalog standard_catalog();

}  // namespace libservices

#endif  // LIBSERVICES_CATALOG_H_
