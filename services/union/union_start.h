// SPDX-License-Identifier: Apache-2.0
//
// How a `Union` starts and stops: its branches, their roots, and the name space of its marks.
// Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_START_H_
#define LIBSERVICES_SERVICES_UNION_UNION_START_H_

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::start() {
  if (branches_.lowers().empty()) {
    return absl::InvalidArgumentError(
        "union: it has no lower branch (give it one, or use the upper by itself)");
  }
  if (absl::Status usable = check_config(); !usable.ok()) return usable;
  if (branches_.has_upper()) {
    if (absl::Status started = start_service(upper()); !started.ok()) return started;
  }
  std::size_t running = 0;
  absl::Status failed;
  for (auto& branch : branches_.lowers()) {
    failed = start_service(*branch);
    if (!failed.ok()) break;
    ++running;
  }
  using union_internal::KnowsPlace;
  if constexpr (KnowsPlace<Upper> && KnowsPlace<Lower>) {
    const std::string above = upper().place() + "/";
    for (std::size_t i = 0; failed.ok() && branches_.has_upper() && i < running; ++i) {
      const std::string below = branches_.lowers()[i]->place() + "/";
      if (above.starts_with(below) || below.starts_with(above)) {
        failed = absl::InvalidArgumentError(
            fmt::format("union: upper {} and lower {} overlap: a change would appear in both (use "
                        "directories of which neither is inside the other)",
                        upper().place(), branches_.lowers()[i]->place()));
      }
    }
  }
  const Context context;
  if (failed.ok()) {
    if (auto opened = branches_.open_roots(context); !opened.ok()) {
      failed = absl::ErrnoToStatus(opened.error().value, "union: a branch's root cannot be read");
    }
  }
  if (failed.ok() && branches_.has_upper()) failed = choose_marks();
  if (failed.ok()) return failed;
  branches_.close_roots();
  for (std::size_t i = 0; i < running; ++i) (void)stop_service(*branches_.lowers()[i]);
  if (branches_.has_upper()) (void)stop_service(upper());
  return failed;
}

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::check_config() {
  if (!kExchangesNames && !marks_are_files_ && branches_.has_upper()) {
    return absl::InvalidArgumentError(
        "union: the upper cannot exchange two names, as whiteouts in overlayfs's form need (use "
        "marks=files)");
  }
  const bool power = (range_bytes_ & (range_bytes_ - 1)) == 0;
  if (range_bytes_ == 0 || (power && range_bytes_ >= 4096 && range_bytes_ <= (1U << 30U))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("union: files cannot be copied up in ranges of {} bytes (use a power of two from "
                  "4096 to 1073741824, or 0 for whole files)",
                  range_bytes_));
}

// Which name space takes our marks?
template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::choose_marks() {
  const Context context;
  auto staging = drafts_.directory(context);
  if (!staging.ok()) {
    return absl::ErrnoToStatus(staging.error().value,
                               "union: the upper has no room for its work directory (name one on "
                               "the same volume with work=PATH)");
  }
  const auto marked = marks_.choose(context, *staging);
  if (marked.ok()) return absl::OkStatus();
  return absl::ErrnoToStatus(marked.error().value,
                             "union: the upper takes no extended attributes (use a volume that has "
                             "trusted.* or user.* attributes)");
}

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::stop() {
  branches_.close_roots();
  absl::Status stopped;
  for (auto& branch : branches_.lowers()) stopped.Update(stop_service(*branch));
  if (branches_.has_upper()) stopped.Update(stop_service(upper()));
  return stopped;
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_START_H_
