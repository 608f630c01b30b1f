// SPDX-License-Identifier: Apache-2.0
#include "src/client/request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <time.h>

#include "ipc/copy.h"

namespace libservices::client {

namespace {
// Which buffer this thread had last: the first place to look.
__thread std::uint32_t last_buffer __attribute__((tls_model("initial-exec")));
}  // namespace

Request::Request(protocol::Operation operation, std::uint32_t instance) : instance_(instance) {
  error_ = take_buffer();
  if (error_ != 0) return;
  buffer_->start(static_cast<std::uint16_t>(operation), static_cast<std::uint16_t>(instance));
}

Request::~Request() {
  if (buffer_ != nullptr) give_back();
}

void Request::give_back() {
  // Given up by the service, which may still read and write there.
  if (buffer_->answer.error == ETIMEDOUT && state.driver.set_aside(*buffer_, index_)) return;
  state.driver.give_back(index_);
}

long Request::take_buffer() {
  constexpr unsigned kYields = 1000;
  const timespec pause{0, 1'000'000};
  for (unsigned times = 0;; ++times) {
    if (const long error = attach(); error != 0) return error;
    session_ = state.session.load();
    buffer_ = state.driver.take_buffer(last_buffer, index_, instance_);
    if (buffer_ != nullptr) {
      // After taking: either this sees that the session is being left, or who leaves it sees the
      // buffer.
      salt_ = state.driver.salt();
      if (session_ % 2 == 0 && state.session.load() == session_) break;
      state.driver.give_back(index_);
      buffer_ = nullptr;
    }
    // Calls of this instance have been given up, and hold all the buffers that it may have.
    if (session_ % 2 == 0 && state.driver.has_aside(instance_)) return -ETIMEDOUT;
    if (times < kYields) {
      raw::syscall(SYS_sched_yield);
    } else {
      raw::syscall(SYS_nanosleep, &pause, nullptr);
    }
  }
  last_buffer = index_;
  return 0;
}

// One round trip. kAgain: it may be asked again, and must be prepared for that.
template <class Meanwhile>
long Request::once(Meanwhile&& meanwhile) {
  asked_ = buffer_->request;
  if (!state.driver.call(*buffer_, meanwhile)) {
    refused_ = false;
    return kAgain;
  }
  const std::int32_t error = buffer_->answer.error;
  if (error != EBADF) return -static_cast<long>(error);
  // Another thread may have changed the session behind our handles.
  refused_ = true;
  return repeated_ == 0 ? kAgain : -EBADF;
}

bool Request::uses_offset() const {
  const auto operation = static_cast<protocol::Operation>(asked_.operation);
  switch (operation) {
    case protocol::Operation::kRead:
    case protocol::Operation::kWrite:
      return asked_.words[1] == protocol::kCurrentOffset;
    case protocol::Operation::kSeek:
      return true;
    default:
      return false;
  }
}

// Whether it does no harm that the service may have run it before it died.
bool Request::may_run_twice() const {
  using protocol::Operation;
  const auto operation = static_cast<Operation>(asked_.operation);
  // A long path lies where the answer's bytes go, and may be overwritten in part.
  if (asked_.inlined == 0 && operation != Operation::kWrite) return false;
  switch (operation) {
    case Operation::kNothing:
    case Operation::kStat:
    case Operation::kSetattr:
    case Operation::kAccess:
    case Operation::kStatfs:
    case Operation::kReadlink:
    case Operation::kGetxattr:
    case Operation::kListxattr:
    case Operation::kSetFlags:
    case Operation::kGetFlags:
    case Operation::kPathOf:
    case Operation::kHandOver:
    case Operation::kGetInodeFlags:
    case Operation::kSetInodeFlags:
    case Operation::kTestLock:
    case Operation::kMap:
    case Operation::kFsync:
    case Operation::kReaddir:  // the service knows whether the listing had begun
      return true;
    case Operation::kRead:
    case Operation::kWrite:
    case Operation::kSeek:
      // The service knows the last move of the offset: of one lost request, not of two.
      return !uses_offset() || repeated_ == 0;
    case Operation::kFallocate: {
      protocol::FallocateRequest words;
      __builtin_memcpy(&words, asked_.words, sizeof words);
      return (words.mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) ==
             0;
    }
    case Operation::kCopyRange: {
      protocol::CopyRangeRequest words;
      __builtin_memcpy(&words, asked_.words, sizeof words);
      return words.from_offset != protocol::kCurrentOffset &&
             words.to_offset != protocol::kCurrentOffset;
    }
    default:
      return false;
  }
}

bool Request::renew_handles() {
  using protocol::Operation;
  const auto operation = static_cast<Operation>(asked_.operation);
  if (operation == Operation::kNothing) return true;
  bool renewed = renew(asked_.words[0]);
  if (operation == Operation::kLink || operation == Operation::kRename ||
      operation == Operation::kCopyRange) {
    renewed = renew(asked_.words[2]) && renewed;
  }
  return renewed;
}

// kAgain: once() is to be called again. Else the result.
long Request::prepare_again() {
  constexpr std::uint32_t kMostTimes = 100;
  const auto operation = static_cast<protocol::Operation>(asked_.operation);
  const long failure = refused_ ? -EBADF : -EIO;
  std::uint32_t number = 0;
  if (!refused_) {
    const std::uint32_t posted = buffer_->state.load();
    const bool was_posted = ipc::is_posted(posted);
    if (state.driver.owns(*buffer_)) lose_session(session_);
    if (operation == protocol::Operation::kClose) return 0;  // its service has ended it
    if (operation == protocol::Operation::kOpen) return was_posted ? kLost : kStale;
    // Of what was not posted, nobody has run anything.
    number = was_posted ? ipc::request_number(salt_, index_, posted) : asked_.repeats;
    if (was_posted && (!may_run_twice() || repeated_ >= kMostTimes)) return -EIO;
    if (was_posted) ++repeated_;
  } else {
    ++repeated_;
  }
  if (state.session.load() != session_) {
    // Its placeholder means nothing, or another one, in the next session.
    if (operation == protocol::Operation::kOpen) return kStale;
    // Of a session that was left: its memory stays. Given back first, since all may be waiting.
    const ipc::RequestBuffer* const old = buffer_;
    state.driver.give_back(index_);
    buffer_ = nullptr;
    if (const long error = take_buffer(); error != 0) return error;
    if (asked_.inlined == 0) __builtin_memcpy(buffer_->data, old->data, asked_.input_bytes);
  }
  const ipc::RequestHeader before = asked_;
  if (!renew_handles() || (refused_ && __builtin_memcmp(&before, &asked_, sizeof before) == 0))
    return failure;
  asked_.repeats = number;
  buffer_->request = asked_;
  return kAgain;
}

long Request::run() {
  for (;;) {
    long result = once([] { return false; });
    if (result != kAgain) return result;
    if (result = prepare_again(); result != kAgain) return result;
  }
}

long Request::run(void* into, std::size_t size) {
  if (size <= protocol::kReadPart) {
    if (const long result = run(); result != 0) return result;
    if (output_bytes() > size) return -EIO;
    __builtin_memcpy(into, buffer_->data, output_bytes());
    return output_bytes();
  }
  for (;;) {
    ipc::ChunkReceiver receiver(into, size, buffer_->data, copies());
    buffer_->progress.store(0, std::memory_order_relaxed);
    long result = once(
        [&] { return receiver.take_up_to(buffer_->progress.load(std::memory_order_acquire)); });
    if (result == 0) {
      if (output_bytes() > size) return -EIO;
      receiver.take_up_to(output_bytes());
      return output_bytes();
    }
    if (result != kAgain) return result;
    if (result = prepare_again(); result != kAgain) return result;
  }
}

}  // namespace libservices::client
