// SPDX-License-Identifier: Apache-2.0
//
// A service open file of one stack: what OpenFile hides.
#ifndef LIBSERVICES_INTERNAL_OPEN_STATE_H_
#define LIBSERVICES_INTERNAL_OPEN_STATE_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "libservices/internal/events.h"
#include "libservices/internal/inode.h"
#include "libservices/open_file.h"

namespace libservices::internal {

template <class Stack>
class OpenState final : public OpenFile {
 public:
  using Object = Inode<typename Stack::Node>;
  using File = typename Stack::File;

  OpenState(OpenFlags flags, std::shared_ptr<Object> inode, std::optional<File> file,
            std::atomic<std::uint64_t>& open_files, const Events<Object>& events)
      : OpenFile(flags),
        inode(std::move(inode)),
        file(std::move(file)),
        open_files_(open_files),
        events_(events) {
    open_files_.fetch_add(1, std::memory_order_relaxed);
  }
  ~OpenState() override {
    // What was written without a call is told at the end.
    if (written_outside_.load(std::memory_order_relaxed)) {
      events_.tell(FileEvent::kModify, *inode);
    }
    if (file) events_.tell_closed(*this, *inode);
    if (inode->has_locks.load(std::memory_order_relaxed)) inode->locks.end(this);
    if (written_outside_.load(std::memory_order_relaxed)) {
      inode->attributes.content_changed();
      inode->outside_writers.fetch_sub(1);
      if (by_stranger_.load(std::memory_order_relaxed)) inode->outside_strangers.fetch_sub(1);
    }
    open_files_.fetch_sub(1, std::memory_order_relaxed);
  }

  // From now on, to the file's end. `by_stranger`: by neither the owner nor the superuser.
  void set_written_outside(bool by_stranger) {
    if (!written_outside_.exchange(true)) inode->outside_writers.fetch_add(1);
    if (by_stranger && !by_stranger_.exchange(true)) inode->outside_strangers.fetch_add(1);
  }

  std::mutex& offset_mutex() { return offset_mutex_; }
  std::uint64_t offset() const { return offset_; }  // REQUIRES: offset_mutex()
  std::uint64_t move(std::uint64_t offset, const Context& context) {  // the same
    move_to(offset_, offset, context.number);
    return offset;
  }
  // The same, for a step that began where the file ended.
  void moved(std::uint64_t before, std::uint64_t after, const Context& context) {
    move_to(before, after, context.number);
  }

  const std::shared_ptr<Object> inode;
  std::optional<File> file;  // none: opened with O_PATH

 private:
  std::atomic<std::uint64_t>& open_files_;
  const Events<Object>& events_;
  std::atomic<bool> written_outside_{false};
  std::atomic<bool> by_stranger_{false};
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_OPEN_STATE_H_
