// SPDX-License-Identifier: Apache-2.0
//
// The request buffer: where one thread of an application writes a request and finds its answer.
//
// It lies in the session's region, which its process and the service map, and nobody else. One
// request is in it at a time: the thread writes it, posts, and waits for kDone; the service claims
// it, copies the header once, answers in place. What a request means is not known here: an
// operation, words and bytes.
//
//   state:  kIdle ──post──▶ kPosted ──claim──▶ kClaimed ──complete──▶ kDone ──take──▶ kIdle
//           (application)   (service)          (service)             (application)
//
// WARNING: to the service every byte here is hostile and may change between two loads. It reads
// the header through copy_once() and the bytes only behind its own bounds.
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_REQUEST_H_
#define LIBSERVICES_IPC_REQUEST_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace libservices::ipc {

inline constexpr unsigned kRequestWords = 12;
inline constexpr unsigned kAnswerWords = 24;

// Room for one request of 1 MiB and its paths.
inline constexpr std::uint32_t kDataBytes = (1U << 20U) + 8192U;

enum class RequestState : std::uint32_t { kIdle, kPosted, kClaimed, kDone };

struct RequestHeader {
  std::uint16_t operation = 0;
  std::uint16_t instance = 0;
  std::uint32_t input_bytes = 0;
  std::uint64_t number = 0;  // counts the session's requests
  std::uint64_t words[kRequestWords] = {};
};

struct AnswerHeader {
  std::int32_t error = 0;
  std::uint32_t output_bytes = 0;
  std::uint64_t words[kAnswerWords] = {};
};

struct alignas(64) RequestBuffer {
  std::atomic<std::uint32_t> state;     // RequestState; the futex that the application waits on
  std::atomic<std::uint32_t> sleeping;  // 1 while the application sleeps on `state`
  RequestHeader request;
  std::atomic<std::uint32_t> taken;     // 1 while a thread of the application has the buffer
  std::atomic<std::uint32_t> cpu;       // where the application posted from: advice for waiting
  alignas(64) AnswerHeader answer;
  alignas(64) std::byte data[kDataBytes];

  // The service's only reading of the header, word by word. It has yet to be checked.
  RequestHeader copy_once() const {
    RequestHeader copy;
    static_assert(sizeof(RequestHeader) % 8 == 0);
    const auto* from = reinterpret_cast<const volatile std::uint64_t*>(&request);
    std::uint64_t words[sizeof(RequestHeader) / 8];
    for (unsigned i = 0; i < sizeof(RequestHeader) / 8; ++i) words[i] = from[i];
    __builtin_memcpy(&copy, words, sizeof copy);
    return copy;
  }
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(offsetof(RequestBuffer, data) == 384);

// A region holds this many buffers, each on pages of its own. Untouched ones cost no memory.
inline constexpr std::uint32_t kBuffersInSession = 64;
inline constexpr std::uint64_t kBufferStride =
    (sizeof(RequestBuffer) + 4095U) & ~std::uint64_t{4095};
inline constexpr std::uint64_t kSessionRegionBytes = kBuffersInSession * kBufferStride;

inline RequestBuffer* buffer_at(void* region, std::uint32_t index) {
  return reinterpret_cast<RequestBuffer*>(static_cast<char*>(region) + index * kBufferStride);
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_REQUEST_H_
