// SPDX-License-Identifier: Apache-2.0
//
// How the configurations of the project's own libservices and layers are written in a spec.
//
//   memory(capacity_bytes=1G, capacity_files=1000)
//   empty
//   local:/directory(work=/directory, exclusive=true, most_descriptors=1000)
//   union(UPPER, LOWER, LOWER…, range=64K, metacopy=false, redirect=true, index=true, durable=true,
//         marks=overlay)
//
// Include it to add a composition of them, or of them and one's own, to a catalog.
#ifndef LIBSERVICES_SRC_HOST_SPECS_H_
#define LIBSERVICES_SRC_HOST_SPECS_H_

#include <fmt/format.h>

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

template <class Upper, class Lower>
struct FromSpec<Union<Upper, Lower>> {
  static constexpr bool kLayers = true;
  static absl::StatusOr<typename Union<Upper, Lower>::Config> config(SpecArguments& arguments) {
    typename Union<Upper, Lower>::Config config;
    std::string marks = "overlay";
    for (const absl::Status& taken :
         {arguments.take("durable", config.durable), arguments.take("range", config.range_bytes),
          arguments.take("metacopy", config.metacopy),
          arguments.take("redirect", config.redirect), arguments.take("index", config.index),
          arguments.take("marks", marks)}) {
      if (!taken.ok()) return taken;
    }
    if (marks != "overlay" && marks != "files") {
      return arguments.error(fmt::format("there is no form of marks '{}'", marks),
                             "write marks=overlay or marks=files");
    }
    using Form = typename Union<Upper, Lower>::MarkForm;
    config.marks = marks == "files" ? Form::kFiles : Form::kOverlay;
    const auto& layers = arguments.spec().layers;
    absl::StatusOr<typename Upper::Config> upper = config_of<Upper>(layers.front());
    if (!upper.ok()) return upper.status();
    config.upper = *std::move(upper);
    for (std::size_t i = 1; i < layers.size(); ++i) {
      absl::StatusOr<typename Lower::Config> lower = config_of<Lower>(layers[i]);
      if (!lower.ok()) return lower.status();
      config.lowers.push_back(*std::move(lower));
    }
    return config;
  }
};

}  // namespace libservices

#endif  // LIBSERVICES_SRC_HOST_SPECS_H_
