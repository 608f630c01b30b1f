// SPDX-License-Identifier: Apache-2.0
//
// Requests of the filesystem library: one round trip each, asked again when the service dies.
#ifndef LIBSERVICES_SRC_CLIENT_REQUEST_H_
#define LIBSERVICES_SRC_CLIENT_REQUEST_H_

#include <cstddef>
#include <cstdint>

#include "ipc/copy.h"
#include "ipc/request.h"
#include "src/client/signals.h"
#include "src/client/state.h"
#include "src/protocol/messages.h"

namespace libservices::client {

// One request of the present session: its words, then its input bytes, then run().
//
// When the service dies meanwhile, it is asked again of the one that follows, if that is safe: if
// running it twice is as good as once, or the service can tell whether it was run. What changes
// names ends with EIO instead; so does everything when no service follows.
//
//   Request request(protocol::Operation::kStat, instance);
//   if (!request.ok()) return request.error();
//   request.set(protocol::StatRequest{…});
//   if (!request.add(path, path_bytes)) return -ENAMETOOLONG;
//   long result = request.run();
class Request {
 public:
  Request(protocol::Operation operation, std::uint32_t instance);
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  bool ok() const { return buffer_ != nullptr; }
  long error() const { return error_; }
  std::uint32_t session() const { return session_; }  // its generation

  template <class T>
  void set(const T& words) {
    static_assert(protocol::FitsRequest<T>);
    buffer_->set_words(words);
  }
  // Adds input bytes. False when they do not fit.
  bool add(const void* bytes, std::size_t size) {
    if (size < ipc::kSmallestTuned) return buffer_->add(bytes, size);
    return buffer_->add(bytes, size, [](void* to, const void* from, std::size_t count) {
      ipc::copy_bytes(to, from, count, copies());
    });
  }
  // 0, or -errno; -protocol::kOutside when the walk left the instance; for an open, which
  // needs another placeholder then: kLost when its answer was lost with the service, kStale when
  // it was not run, since the placeholder is of an earlier session.
  long run();
  static constexpr long kLost = -4098;
  static constexpr long kStale = -4099;
  // As run(), and the output goes to `into`, while it arrives if it is large. -errno, or its size.
  long run(void* into, std::size_t size);

  template <class T>
  T answer() const {
    static_assert(protocol::FitsAnswer<T>);
    T words;
    __builtin_memcpy(&words, buffer_->answer.words, sizeof words);
    return words;
  }
  std::uint64_t answer_word() const { return buffer_->answer.words[0]; }
  const char* output() const { return reinterpret_cast<const char*>(buffer_->data); }
  std::uint32_t output_bytes() const {
    const std::uint32_t bytes = buffer_->answer.output_bytes;
    return bytes <= ipc::kDataBytes ? bytes : 0;
  }

 private:
  static constexpr long kAgain = -4099;

  long take_buffer();
  void give_back();
  template <class Meanwhile>
  long once(Meanwhile&& meanwhile);
  long prepare_again();
  bool may_run_twice() const;
  bool uses_offset() const;
  bool renew_handles();

  const Whole whole_;  // a buffer that nobody gives back would be missed
  ipc::RequestBuffer* buffer_ = nullptr;
  ipc::RequestHeader asked_;    // the answer takes its place in the buffer
  std::uint32_t instance_ = 0;
  std::uint32_t index_ = 0;     // of the buffer in the session that it was taken in
  std::uint32_t session_ = 0;   // generation
  std::uint64_t salt_ = 0;      // of the session
  std::uint32_t repeated_ = 0;  // times
  bool refused_ = false;        // it was not run: EBADF
  long error_ = 0;
};

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_REQUEST_H_
