// SPDX-License-Identifier: Apache-2.0
//
// The request buffer: where one thread of an application writes a request and finds its answer.
//
// It lies in the session's region, which its process and the service map, and nobody else. One
// request is in it at a time: the thread writes it, posts, and waits for the answer in the same
// place. What a request means is not known here: an operation, words and bytes.
//
// `state` counts: odd while a request is posted, even once it is answered (or never was one). The
// service keeps for itself which count it has taken last, so taking a request writes nothing here.
//
// Messages are short: a request's words, and its input if there is room for it, lie behind the
// state in two cache lines, the answer in as many as its words need. Every line that travels
// between two cores costs about as much as running a simple request.
//
// WARNING: to the service every byte here is hostile and may change between two loads. It reads
// the header through copy_once() and the bytes only behind its own bounds.
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_REQUEST_H_
#define LIBSERVICES_IPC_REQUEST_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/fault_point.h"

namespace libservices::ipc {

inline constexpr unsigned kRequestWords = 12;
inline constexpr unsigned kAnswerWords = 24;

// Room for one request of 1 MiB and its paths.
inline constexpr std::uint32_t kDataBytes = (1U << 20U) + 8192U;

struct RequestHeader {
  std::uint16_t operation;
  std::uint16_t instance;
  std::uint16_t word_count;
  std::uint16_t inlined;  // 1: the input follows the words, 0: it is in RequestBuffer::data
  std::uint32_t input_bytes;
  std::uint32_t repeats;  // the number of the lost request that this one is again; 0: none
  std::uint64_t words[kRequestWords + 1];

  // Whether its counts keep within the bounds.
  bool is_sound() const {
    return word_count <= kRequestWords &&
           input_bytes <= (inlined != 0 ? inline_room() : kDataBytes);
  }
  std::uint32_t inline_room() const {
    return static_cast<std::uint32_t>(sizeof words - 8U * word_count);
  }
  const std::byte* inline_input() const {
    return reinterpret_cast<const std::byte*>(words + word_count);
  }
};

struct AnswerHeader {
  std::int32_t error;
  std::uint32_t output_bytes;
  std::uint64_t words[kAnswerWords];
};

struct alignas(64) RequestBuffer {
  std::atomic<std::uint32_t> state;    // see above; the futex that the application waits on
  std::atomic<std::uint8_t> sleeping;  // 1 while the application sleeps on `state`
  std::atomic<std::uint8_t> watched;   // 1 + the core group that looks here without a doorbell
  std::atomic<std::uint16_t> cpu;      // where the application posted from: advice for waiting
  union {
    RequestHeader request;
    AnswerHeader answer;  // in the place of the request
  };
  // Of a request with much output: the bytes of `data` that are in place already. The application
  // sets it to 0 before it posts a request that it reads this of.
  alignas(64) std::atomic<std::uint32_t> progress;
  // Of a request that was answered with ETIMEDOUT before it had ended: 1 as long as the service may
  // still use the buffer, which must not have another request meanwhile.
  std::atomic<std::uint32_t> held;
  alignas(64) std::byte data[kDataBytes];

  // The application's writing of a request: this, the words, then the input in one part or more.
  void start(std::uint16_t operation, std::uint16_t instance) {
    request.operation = operation;
    request.instance = instance;
    request.word_count = 0;
    request.inlined = 1;
    request.input_bytes = 0;
    request.repeats = 0;
  }
  template <class Words>
  void set_words(const Words& words) {
    static_assert(sizeof(Words) <= 8 * kRequestWords && sizeof(Words) % 8 == 0);
    __builtin_memcpy(request.words, &words, sizeof words);
    request.word_count = sizeof words / 8;
  }
  // False when they do not fit. `copy` is memcpy, or does what it does.
  bool add(const void* bytes, std::size_t size) {
    return add(bytes, size, [](void* to, const void* from, std::size_t count) {
      __builtin_memcpy(to, from, count);
    });
  }
  template <class Copy>
  bool add(const void* bytes, std::size_t size, Copy&& copy) {
    if (size > kDataBytes - request.input_bytes) return false;
    if (size == 0) return true;
    auto* inline_input = reinterpret_cast<std::byte*>(request.words + request.word_count);
    if (request.inlined != 0 && size > request.inline_room() - request.input_bytes) {
      __builtin_memcpy(data, inline_input, request.input_bytes);
      request.inlined = 0;
    }
    std::byte* const input = request.inlined != 0 ? inline_input : data;
    copy(input + request.input_bytes, bytes, size);
    LIBSERVICES_FAULT_POINT("input copied");
    request.input_bytes += static_cast<std::uint32_t>(size);
    return true;
  }

  // The service's only reading of the header, word by word. It has yet to be checked.
  RequestHeader copy_once() const {
    constexpr unsigned kFirst = 2;  // 64-bit words before RequestHeader::words
    static_assert(offsetof(RequestHeader, words) == 8 * kFirst);
    const auto* from = reinterpret_cast<const volatile std::uint64_t*>(&request);
    std::uint64_t copied[sizeof(RequestHeader) / 8] = {};
    copied[0] = from[0];
    copied[1] = from[1];
    RequestHeader copy;
    __builtin_memcpy(&copy, copied, 8 * kFirst);
    // The second cache line only if something is there.
    const std::uint64_t bytes = 8U * copy.word_count + (copy.inlined != 0 ? copy.input_bytes : 0U);
    const std::uint64_t used = bytes < sizeof copy.words ? (bytes + 7) / 8 : kRequestWords + 1;
    for (std::uint64_t i = 0; i < used; ++i) copied[kFirst + i] = from[kFirst + i];
    __builtin_memcpy(copy.words, copied + kFirst, sizeof copy.words);
    return copy;
  }
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(offsetof(RequestBuffer, request) == 8 && sizeof(RequestHeader) == 120);
static_assert(offsetof(RequestBuffer, data) == 320);

inline bool is_posted(std::uint32_t state) { return state % 2 != 0; }

// The number of a request, never 0: of its session's salt, its buffer, and the count in `state`
// while it was posted. Both ends know it. Who asks again in another session, because nobody knows
// whether a request was run, names it so (RequestHeader::repeats).
inline std::uint32_t request_number(std::uint64_t salt, std::uint32_t buffer,
                                    std::uint32_t posted) {
  std::uint64_t mixed = salt ^ ((std::uint64_t{buffer} << 32U) | posted);
  mixed = (mixed ^ (mixed >> 31U)) * 0x9e3779b97f4a7c15ULL;
  return static_cast<std::uint32_t>(mixed >> 32U) | 1U;
}

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
