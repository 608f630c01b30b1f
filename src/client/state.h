// SPDX-License-Identifier: Apache-2.0
//
// What the filesystem library knows in one process: the pool, the session, the stock of
// placeholders, and which descriptors are library open files.
//
// All of it is plain memory that is right when zero. Nothing here takes a lock or memory from the
// heap: descriptors may be used in signal handlers, and while malloc itself is starting up.
//
// Results are `long`: what the system call of that name returns, or a negative errno.
#ifndef LIBSERVICES_SRC_CLIENT_STATE_H_
#define LIBSERVICES_SRC_CLIENT_STATE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/copy.h"
#include "ipc/front_driver.h"
#include "src/protocol/messages.h"
#include "src/protocol/mount_table.h"
#include "src/protocol/placeholder.h"

namespace libservices::client {

namespace raw = ipc::raw;

inline constexpr std::size_t kPathBytes = 4096;

// A library open file: what this process knows of one service open file.
//
// `descriptors` counts the descriptors of this process, and the working directory. While the
// record is `exclusive`, no other process can have a descriptor of it, so the last close here ends
// the service open file; otherwise the kernel tells the service when the last descriptor is gone.
struct OpenRecord {
  std::atomic<std::uint32_t> descriptors;  // 0: the record is free
  std::atomic<std::uint32_t> exclusive;
  std::atomic<std::uint32_t> listed;   // 1: the listing is at its end, if nobody else moved it
  std::atomic<std::uint64_t> handle;   // 0: to be adopted in this session
  std::atomic<std::uint32_t> session;  // generation of the session that `handle` belongs to
  std::atomic<std::uint64_t> earlier_handle;  // in a session that was left or lost
  std::uint32_t instance;
  std::uint32_t flags;                // O_* as at open; O_PATH and the access mode never change
  std::uint32_t mode;                 // st_mode
  protocol::Placeholder placeholder;  // of our stock, or kNone
  int stock_descriptor;               // ours for the placeholder, or -1
  bool removed_directory;             // the placeholder is one: for a working directory
  std::uint64_t inode;                // of the placeholder
};

struct State {
  bool active;   // a pool was named, and its mount table is mapped
  bool watched;  // `outcome` is kept
  std::atomic<const protocol::MountTable*> mount_table;
  char directory[128];              // the pool's run directory
  std::uint32_t most_descriptors;   // length of `files`
  std::atomic<OpenRecord*>* files;  // by descriptor; null: the kernel's

  ipc::FrontDriver driver;
  std::atomic<std::uint32_t>
      session;                      // generation; odd: there is none, or it is being made or left
  std::atomic<std::uint32_t> lost;  // 1: a service died while this process used it
  std::atomic<std::uint32_t> gave_up;  // 1: no other came in time: calls do not wait for it again

  std::atomic<OpenRecord*> working_directory;  // null: the kernel's
};

extern State state;

// What became of the call that a thread makes, noted while State::watched: the preload library's
// reports and its strictness need it.
enum class Outcome : std::uint8_t { kPassed, kServed, kRefused };
extern thread_local Outcome outcome;

// The result `error` of a call that Linux does on its own files and the library does not on ours.
inline long refused(long error) {
  if (state.watched) [[unlikely]] {
    outcome = Outcome::kRefused;
  }
  return error;
}
inline void note_served() {
  if (state.watched && outcome == Outcome::kPassed) [[unlikely]] {
    outcome = Outcome::kServed;
  }
}

inline const protocol::MountTable& mounts() {
  return *state.mount_table.load(std::memory_order_acquire);
}

// Reads LIBSERVICES_POOL and maps the mount table. Cheap: no message is sent.
void start(const char* run_directory);

// The library open file of `descriptor`, or null.
inline OpenRecord* find(int descriptor) {
  if (!state.active || static_cast<std::uint32_t>(descriptor) >= state.most_descriptors) {
    return nullptr;
  }
  OpenRecord* const found = state.files[descriptor].load(std::memory_order_acquire);
  if (found != nullptr) note_served();
  return found;
}

// The handle of `record` in the present session: attaches and adopts if need be.
// `descriptor` is any descriptor of it, or -1 for the working directory. -errno on failure.
long handle_of(OpenRecord& record, int descriptor, protocol::Handle& handle);

// The handle in the present session of what had `handle` in an earlier one. False: there is none.
bool renew(protocol::Handle& handle);

// The service of `session` (its generation) is gone: nothing of that session can be used any more.
void lose_session(std::uint32_t session);

// Whether any record is in use.
bool any_records();
// A record of its own for a new or found open file; null when there are too many.
OpenRecord* new_record();
// One descriptor less: the last one ends the record, and an exclusive open file. The result is
// that of the close, 0 for one that is not the last.
long release(OpenRecord& record);
// Descriptors may now exist elsewhere: before a fork's return, an exec, a spawn, a message.
void share(OpenRecord& record);
void share_all();

// A placeholder of the stock for a new open file, and its descriptor. -errno.
struct Stock {
  protocol::Placeholder placeholder;
  int descriptor;
  std::uint64_t inode;
  std::uint32_t session;  // generation
};
long take_stock(bool directory, Stock& stock);
void give_back_stock(bool directory, const Stock& stock);

// Asks about a socket or fifo; `send`: a descriptor that goes with the question, or -1. A
// descriptor, one of our own, 0 when none came, or -errno: ESTALE when the session does not know
// the handle.
long ask_for_object(const protocol::ObjectRequest& request, int send);
void close_own(int descriptor);  // -1: nothing

// Makes sure there is a session: waits for a service, if one was there, as long as the mount table
// says. -errno.
long attach();
// In the child of a fork: what was the parent's stays the parent's.
void after_fork_in_child();
// The identity of the process has changed: the next call attaches anew, as whom it is now. Waits
// for the calls of other threads.
void forget_session();
// Finds the descriptors that this process image began with.
void adopt_inherited();
// Records a descriptor that arrived over a socket, if it is a placeholder of this service.
void adopt_received(int descriptor);

// The descriptor that the answer to a kMap in `session` (its generation) named. -errno; -ESTALE:
// that session is no more.
long take_mapped(std::uint32_t session, std::uint32_t number);

// How to copy much on this processor, as the service says.
const ipc::CopyTable& copies();

// A copy of a descriptor of the program's for the library's own use, out of its way; -errno.
int keep_copy(int descriptor);
void close_copy(int copy);

// Whether the library itself uses this descriptor: closing it is refused as if it were not open.
bool is_own_descriptor(int descriptor);

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_STATE_H_
