// SPDX-License-Identifier: Apache-2.0
//
// When a libservice runs, and how long what it said stays true. All of it is optional.
#ifndef LIBSERVICES_LIFECYCLE_H_
#define LIBSERVICES_LIFECYCLE_H_

#include <chrono>
#include <concepts>
#include <cstdint>

#include "absl/status/status.h"

namespace libservices {

// How long what a libservice said stays true, when others may change the storage behind it.
struct Coherence {
  enum class Kind : std::uint8_t {
    kNeverChanges,          // the content is fixed
    kChangesOnlyThroughMe,  // this instance is the only one that changes it (and CountsLosses)
    kAskAgain,              // others change it; true for `ask_again_after`, then ask again
  };

  Kind kind = Kind::kAskAgain;
  std::chrono::nanoseconds ask_again_after{0};

  friend constexpr bool operator==(const Coherence&, const Coherence&) = default;
};

// start, stop: all I/O that begins and ends an instance. `stop` is called once after a successful
// `start`, when no operation is running.
template <class S>
concept HasLifecycle = requires(S& s) {
  { s.start() } -> std::same_as<absl::Status>;
  { s.stop() } -> std::same_as<absl::Status>;
};

// coherence: constant after start(). Without it a libservice counts as {kAskAgain, 0}.
template <class S>
concept DeclaresCoherence = requires(const S& s) {
  { s.coherence() } -> std::same_as<Coherence>;
};

// losses: how often what was said before may have become untrue, though nobody else has changed
// anything: the storage lost it. Grows, and does before anything else is said. Who counts them also
// loses with the process what was written and not synchronised.
template <class S>
concept CountsLosses = requires(const S& s) {
  { s.losses() } -> std::same_as<std::uint64_t>;
};

template <class S>
absl::Status start_service(S& service) {
  if constexpr (HasLifecycle<S>) return service.start();
  return absl::OkStatus();
}

template <class S>
absl::Status stop_service(S& service) {
  if constexpr (HasLifecycle<S>) return service.stop();
  return absl::OkStatus();
}

template <class S>
Coherence coherence_of(const S& service) {
  if constexpr (DeclaresCoherence<S>) return service.coherence();
  return {};
}

}  // namespace libservices

#endif  // LIBSERVICES_LIFECYCLE_H_
