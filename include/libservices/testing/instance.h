// SPDX-License-Identifier: Apache-2.0
//
// `Instance<Stack>`: a started libservice for one conformance case, with the tree that every case
// begins with, and the few steps that cases are made of.
//
// The tree: "file" (mode 0644, content kSeedText), "directory" with "inner" (the same content) in
// it, and "empty", a directory. A service that can be written gets it from here. The stack of one
// that cannot, or that has it in a lower layer, brings it along: `seed()` makes it in anything that
// can be written.
//
// Needs <doctest/doctest.h> (Debian: doctest-dev).
#ifndef LIBSERVICES_TESTING_INSTANCE_H_
#define LIBSERVICES_TESTING_INSTANCE_H_

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "libservices/capabilities.h"

namespace libservices::testing {

inline constexpr std::string_view kSeedText = "what stands in the file\n";
inline constexpr NewNode kPlain{.mode = 0644};
inline constexpr NewNode kDirectory{.mode = 0755};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// 0 for success, otherwise the errno.
template <class T>
int error_of(const Result<T>& result) {
  return result.error().value;
}

// The value; ends the case when there is none.
template <class T>
T must(Result<T> result, int line = __builtin_LINE()) {
  INFO("called in line ", line);
  REQUIRE(error_of(result) == 0);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

template <WritableService S>
void write_file(S& service, const Context& context, const typename S::Node& directory,
                std::string_view name, std::string_view text) {
  auto made = must(service.create(context, directory, name, kPlain, {O_WRONLY}));
  CHECK(must(service.write(context, made.file, 0, bytes_of(text))) == text.size());
  must(service.close(context, made.file));
}

template <WritableService S>
void seed(S& service) {
  const Context context;
  const auto root = must(service.root(context)).node;
  write_file(service, context, root, "file", kSeedText);
  const auto directory = must(service.mkdir(context, root, "directory", kDirectory)).node;
  write_file(service, context, directory, "inner", kSeedText);
  must(service.mkdir(context, root, "empty", kDirectory));
}

// A *Stack* is a default-constructible struct that lives as long as the instance does:
//   using Service = …;                            the libservice
//   static constexpr const char* kName = "…";     how the report calls it
//   Service::Config config();                     a fresh instance, called once
//   static constexpr bool kSeeded = true;         optional: the tree is there already
//   static constexpr bool refuses(RenameMode);    optional: what `rename` answers with EINVAL, at
//                                                 least for files
template <class Stack>
constexpr bool is_seeded() {
  if constexpr (requires { Stack::kSeeded; }) return Stack::kSeeded;
  return !WritableService<typename Stack::Service>;
}

template <class Stack>
constexpr bool refuses(RenameMode mode) {
  if constexpr (requires { Stack::refuses(mode); }) return Stack::refuses(mode);
  return false;
}

template <class Stack>
struct Instance {
  using Service = typename Stack::Service;
  using Node = typename Service::Node;
  using File = typename Service::File;

  Instance() : service(stack.config()) {
    const absl::Status started = start_service(service);
    REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
    if constexpr (!is_seeded<Stack>()) seed(service);
    root_node.emplace(must(service.root(context)).node);
  }
  ~Instance() {
    root_node.reset();
    CHECK(stop_service(service).ok());
  }
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  const Node& root() const { return *root_node; }
  Node find(const Node& directory, std::string_view name, int line = __builtin_LINE()) {
    return must(service.lookup(context, directory, name), line).node;
  }
  Node find(std::string_view name, int line = __builtin_LINE()) {
    return find(root(), name, line);
  }
  int lookup_error(const Node& directory, std::string_view name) {
    return error_of(service.lookup(context, directory, name));
  }
  Attributes attributes(const Node& node, int line = __builtin_LINE()) {
    return must(service.getattr(context, node), line);
  }
  File open(const Node& node, int flags = O_RDONLY, int line = __builtin_LINE()) {
    return must(service.open(context, node, {flags}), line).file;
  }
  void close(File& file, int line = __builtin_LINE()) { must(service.close(context, file), line); }
  Node make(const Node& directory, std::string_view name, std::string_view text = "") {
    write_file(service, context, directory, name, text);
    return find(directory, name);
  }

  std::string read_from(File& file, std::uint64_t offset, std::size_t size) {
    std::string text(size, '\xff');
    text.resize(must(service.read(context, file, offset, std::as_writable_bytes(std::span(text)))));
    return text;
  }
  std::string content(const Node& node) {
    File file = open(node);
    std::string text = read_from(file, 0, attributes(node).size + 1);
    close(file);
    return text;
  }

  struct Listed {
    std::string name;
    std::uint64_t inode;
    std::uint8_t type;
    std::uint64_t cookie;
  };
  // All entries, `at_once` in each call.
  std::vector<Listed> list(const Node& directory, std::size_t at_once = SIZE_MAX) {
    File file = open(directory, O_RDONLY | O_DIRECTORY);
    std::vector<Listed> all;
    for (bool more = true; more;) {
      std::size_t taken = 0;
      more = false;
      const std::uint64_t after = all.empty() ? 0 : all.back().cookie;
      must(service.readdir(context, file, after, Listing::kNames, [&](const DirEntry& entry) {
        if (taken == at_once) {
          more = true;
          return false;
        }
        ++taken;
        all.push_back({std::string(entry.name), entry.inode, entry.type, entry.cookie});
        return true;
      }));
    }
    close(file);
    return all;
  }
  std::multiset<std::string> names(const Node& directory) {
    std::multiset<std::string> found;
    for (const Listed& entry : list(directory)) found.insert(entry.name);
    return found;
  }

  Stack stack;
  Service service;
  const Context context;
  std::optional<Node> root_node;
};

// The types for which a case is registered: none where the service has not the ability.
template <bool offered, class Stack>
using WhereOffered = std::conditional_t<offered, std::tuple<Stack>, std::tuple<>>;

// Registers the case `id` for `Stack` where `Concept` holds for its service.
#define LIBSERVICES_CASE(id, Stack, Concept)                              \
  TEST_CASE_TEMPLATE_APPLY(                                               \
      ::libservices::testing::id,                                         \
      ::libservices::testing::WhereOffered<                               \
          ::libservices::Concept<Stack::Service>, Stack>)

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTING_INSTANCE_H_
