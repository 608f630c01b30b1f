// SPDX-License-Identifier: Apache-2.0
//
// How the layers of include/libservices/layers are written in a spec.
//
//   readonly(X)
//   subtree(X, path=/srv/www)
//   idmap(X, uid=STORED:SHOWN:COUNT, gid=STORED:SHOWN:COUNT)     more ranges: …:S:S:C:S:S:C
//   idmap(X, squash_uid=N, squash_gid=N)        squash_to_root=on: 0 for those that are not given
//   trace(X)                                    every operation as a line on standard error
//   faulty(X, operation=fsync, error=EIO, first_call=3, every=1, delay=5s)
//                                               with a delay and no error it only takes long
//
// Include it to add a composition of them to a catalog.
#ifndef LIBSERVICES_SRC_HOST_LAYER_SPECS_H_
#define LIBSERVICES_SRC_HOST_LAYER_SPECS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "libservices/catalog.h"
#include "libservices/layers/faulty.h"
#include "libservices/layers/id_map.h"
#include "libservices/layers/read_only.h"
#include "libservices/layers/subtree.h"
#include "libservices/layers/trace.h"

namespace libservices {

namespace host {

// Writes a line on standard error.
TraceSink trace_to_standard_error();

// ERRORS: InvalidArgument for an operation or error that there is not.
absl::StatusOr<std::shared_ptr<FaultPlan>> fault_plan(SpecArguments& arguments);

// The ranges of option `key`: triples of the first stored id, the first shown id and their count.
// ERRORS: InvalidArgument for what is no triple; IdMap::start() looks at the numbers.
absl::Status take_id_ranges(SpecArguments& arguments, std::string_view key,
                            std::vector<IdRange>& into);
// squash_uid, squash_gid, and squash_to_root for those of them that are not given.
// ERRORS: InvalidArgument.
absl::Status take_squash(SpecArguments& arguments, std::optional<std::uint32_t>& uid,
                         std::optional<std::uint32_t>& gid);

// The Config of a layer with one beneath, whose node has exactly one layer.
template <class Layer, class Lower>
absl::StatusOr<typename Layer::Config> layer_config(SpecArguments& arguments) {
  if (arguments.layers() != 1) return arguments.error("it has one layer beneath", "write one");
  absl::StatusOr<typename Lower::Config> lower = config_of<Lower>(arguments.spec().layers[0]);
  if (!lower.ok()) return lower.status();
  typename Layer::Config config{};
  config.lower = *std::move(lower);
  return config;
}

}  // namespace host

template <class Lower>
struct FromSpec<ReadOnly<Lower>> {
  static constexpr bool kLayers = true;
  static auto config(SpecArguments& arguments) {
    return host::layer_config<ReadOnly<Lower>, Lower>(arguments);
  }
};

template <class Lower>
struct FromSpec<Subtree<Lower>> {
  static constexpr bool kLayers = true;
  static absl::StatusOr<typename Subtree<Lower>::Config> config(SpecArguments& arguments) {
    auto config = host::layer_config<Subtree<Lower>, Lower>(arguments);
    if (!config.ok()) return config;
    if (absl::Status taken = arguments.take("path", config->path); !taken.ok()) return taken;
    if (config->path.empty()) {
      return arguments.error("'subtree' needs a directory of the layer beneath",
                             "write subtree(…, path=DIRECTORY)");
    }
    return config;
  }
};

template <class Lower>
struct FromSpec<IdMap<Lower>> {
  static constexpr bool kLayers = true;
  static absl::StatusOr<typename IdMap<Lower>::Config> config(SpecArguments& arguments) {
    auto config = host::layer_config<IdMap<Lower>, Lower>(arguments);
    if (!config.ok()) return config;
    for (const absl::Status& taken :
         {host::take_id_ranges(arguments, "uid", config->uids),
          host::take_id_ranges(arguments, "gid", config->gids),
          host::take_squash(arguments, config->squash_uid, config->squash_gid)}) {
      if (!taken.ok()) return taken;
    }
    return config;
  }
};

template <class Lower>
struct FromSpec<Trace<Lower>> {
  static constexpr bool kLayers = true;
  static absl::StatusOr<typename Trace<Lower>::Config> config(SpecArguments& arguments) {
    auto config = host::layer_config<Trace<Lower>, Lower>(arguments);
    if (!config.ok()) return config;
    config->detail = TraceDetail::kDurations;
    config->sink = host::trace_to_standard_error();
    return config;
  }
};

template <class Lower>
struct FromSpec<Faulty<Lower>> {
  static constexpr bool kLayers = true;
  static absl::StatusOr<typename Faulty<Lower>::Config> config(SpecArguments& arguments) {
    auto config = host::layer_config<Faulty<Lower>, Lower>(arguments);
    if (!config.ok()) return config;
    absl::StatusOr<std::shared_ptr<FaultPlan>> plan = host::fault_plan(arguments);
    if (!plan.ok()) return plan.status();
    config->plan = *std::move(plan);
    return config;
  }
};

}  // namespace libservices

#endif  // LIBSERVICES_SRC_HOST_LAYER_SPECS_H_
