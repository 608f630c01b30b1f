// SPDX-License-Identifier: Apache-2.0
//
// The beginning of a watch. Included by tree.h alone.
#ifndef LIBSERVICES_INTERNAL_TREE_WATCH_H_
#define LIBSERVICES_INTERNAL_TREE_WATCH_H_

#include <shared_mutex>
#include <string_view>

#include "libservices/internal/tree.h"

namespace libservices::internal {

template <ReadableService Stack>
Result<void> Tree<Stack>::watch(const Context& context, const Pointer& object, EntrySink sink) {
  if (!events_.has_listener()) return Errno{EOPNOTSUPP};
  if (!object->is_directory()) {
    object->watched.fetch_or(kWatchedItself);
    return {};
  }
  LIBSERVICES_TRY(auto listing,
                  stack_.open(context, object->node, OpenFlags{O_RDONLY | O_DIRECTORY}));
  std::shared_lock lock(object->entries);
  object->watched.fetch_or(kWatchedItself);
  const auto listed = stack_.readdir(
      context, listing.file, 0, Listing::kNames, [&](const DirEntry& entry) {
        // Who has it open may go on without its name.
        Pointer known = inodes_.find({object->key.device, entry.inode});
        if (known == nullptr) {
          if (auto named = names_.find(object->id, entry.name)) known = std::move(named->object);
        }
        if (known != nullptr) place(known, object, entry.name);
        return sink(entry);
      });
  lock.unlock();
  (void)stack_.close(context, listing.file);
  if (!listed.ok()) unwatch(*object);
  return listed;
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_TREE_WATCH_H_
