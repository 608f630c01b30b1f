// SPDX-License-Identifier: Apache-2.0
//
// The files of a `Union` that are in the upper in part: finding all of them, and making them whole.
// Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_COMPLETION_H_
#define LIBSERVICES_SERVICES_UNION_UNION_COMPLETION_H_

#include <dirent.h>
#include <fcntl.h>

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::for_each_partial(
    C context, const std::stop_token& stop, const std::function<Result<void>(const Node&)>& take) {
  if (!branches_.has_upper()) return {};
  std::vector<Node> directories{branches_.root()};
  while (!directories.empty()) {
    const Node directory = std::move(directories.back());
    directories.pop_back();
    std::vector<std::string> names;
    LIBSERVICES_TRY(auto opened,
                    upper().open(context, *directory->upper(), OpenFlags{O_RDONLY | O_DIRECTORY}));
    auto listed =
        upper().readdir(context, opened.file, 0, Listing::kNames, [&](const DirEntry& entry) {
          const bool content =
              entry.type == DT_REG || entry.type == DT_DIR || entry.type == DT_UNKNOWN;
          if (content && entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
          return true;
        });
    (void)upper().close(context, opened.file);
    LIBSERVICES_CHECK_OK(listed);
    for (const std::string& name : names) {
      if (stop.stop_requested()) return Errno{EINTR};
      std::shared_lock lock(directory->entries);
      LIBSERVICES_TRY(const auto found, lookup_.find(context, directory, name));
      lock.unlock();
      if (!found.record || !found.in_upper) continue;
      if (found.record->is_directory()) {
        directories.push_back(found.record);
      } else if (found.record->partial()) {
        LIBSERVICES_CHECK_OK(take(found.record));
      }
    }
  }
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::uint64_t> Union<Upper, Lower>::partial_files(C context, std::stop_token stop) {
  std::unordered_set<std::uint64_t> found;  // each once, whatever names it has
  LIBSERVICES_CHECK_OK(for_each_partial(context, stop, [&](const Node& node) {
    found.insert(node->inode);
    return Result<void>();
  }));
  return std::uint64_t{found.size()};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::complete(C context, std::uint64_t& completed) {
  return for_each_partial(context, {}, [&](const Node& node) -> Result<void> {
    const auto partial = node->partial();
    if (!partial) return {};
    LIBSERVICES_CHECK_OK(partials_.settle(context, *node->upper(), *partial));
    LIBSERVICES_CHECK_OK(partials_.complete(context, *node->upper(), *partial));
    ++completed;
    return {};
  });
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_COMPLETION_H_
