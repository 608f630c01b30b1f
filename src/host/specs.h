// SPDX-License-Identifier: Apache-2.0
//
// How the configurations of the project's own libservices and layers are written in a spec.
//
//   memory(capacity_bytes=1G, capacity_files=1000)
//   empty
//   local:/directory(work=/directory, exclusive=true, most_descriptors=1000)
//   union(UPPER, LOWER, LOWER…, range=64K, metacopy=off, redirect=on, index=on, marks=overlay,
//         volatile=off)
//   union(LOWER, LOWER…, upper=none)      nothing can be changed
//
// Include it to add a composition of them, or of them and one's own, to a catalog.
#ifndef LIBSERVICES_SRC_HOST_SPECS_H_
#define LIBSERVICES_SRC_HOST_SPECS_H_

#include <cstdint>
#include <optional>
#include <type_traits>

#include "absl/status/statusor.h"
#include "libservices/catalog.h"
#include "libservices/sources/empty.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"

namespace libservices {

template <>
struct FromSpec<Memory> {
  static constexpr bool kLayers = false;
  static absl::StatusOr<Memory::Config> config(SpecArguments& arguments);
};

template <>
struct FromSpec<Local> {
  static constexpr bool kLayers = false;
  static absl::StatusOr<Local::Config> config(SpecArguments& arguments);
};

namespace host {

// `volatile=on`, as overlayfs calls it, is `durable=false`.
// ERRORS: InvalidArgument for a value that is none, or both options.
absl::Status take_durability(SpecArguments& arguments, bool& durable);

}  // namespace host

template <class Upper, class Lower>
struct FromSpec<Union<Upper, Lower>> {
  static constexpr bool kLayers = true;
  static absl::StatusOr<typename Union<Upper, Lower>::Config> config(SpecArguments& arguments) {
    typename Union<Upper, Lower>::Config config;
    using Form = typename Union<Upper, Lower>::MarkForm;
    std::optional<std::uint64_t> range = config.range_bytes;
    bool lasting_numbers = true;  // always: overlayfs's name for it is taken, but not for their lack
    for (const absl::Status& taken :
         {host::take_durability(arguments, config.durable), arguments.take_size("range", range),
          arguments.take_switch("metacopy", config.metacopy),
          arguments.take_switch("redirect", config.redirect),
          arguments.take_switch("index", config.index),
          arguments.take_choice("xino", {{"on", true}, {"auto", true}}, lasting_numbers),
          arguments.take_choice("marks", {{"overlay", Form::kOverlay}, {"files", Form::kFiles}},
                                config.marks),
          arguments.take_choice("upper", {{"first", false}, {"none", true}},
                                config.without_upper)}) {
      if (!taken.ok()) return taken;
    }
    config.range_bytes = range.value_or(0);
    const auto& layers = arguments.spec().layers;
    absl::StatusOr<typename Upper::Config> upper = config_of<Upper>(layers.front());
    if (!upper.ok()) return upper.status();
    if constexpr (std::is_same_v<Upper, Lower>) {
      if (config.without_upper) config.lowers.push_back(*upper);
    } else if (config.without_upper) {
      return arguments.error("its upper is of another kind than its lowers",
                             "leave the upper out only where all layers are of one kind");
    }
    config.upper = *std::move(upper);
    // What the union changes nobody else may: some storage can do more then.
    if constexpr (requires { config.upper.exclusive; }) config.upper.exclusive = true;
    for (std::size_t i = 1; i < layers.size(); ++i) {
      absl::StatusOr<typename Lower::Config> lower = config_of<Lower>(layers[i]);
      if (!lower.ok()) return lower.status();
      config.lowers.push_back(*std::move(lower));
    }
    // And what it shows, nobody at all.
    if constexpr (requires { config.lowers.front().unchanging; }) {
      for (auto& lower : config.lowers) lower.unchanging = true;
    }
    return config;
  }
};

}  // namespace libservices

#endif  // LIBSERVICES_SRC_HOST_SPECS_H_
