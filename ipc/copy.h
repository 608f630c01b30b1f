// SPDX-License-Identifier: Apache-2.0
//
// Copying bytes: within a process by the copy table, and between two by one of the strategies.
//
//   SMC  shared memory, copied in whole and then out whole     ipc/copy_shared.h
//   SMO  the same as a pipeline: while the receiver copies     ipc/copy_shared.h
//        one chunk out, the sender copies the next one in
//   CMA  the kernel copies from one address space to the       ipc/copy_cma.h
//        other: process_vm_readv and process_vm_writev
//
// The request path has a buffer for each request and its own way of waiting, so its pipeline is
// ChunkReceiver at the client, and the stack's reads at the service.
//
// Freestanding: the preload library includes it. THREADS: one for each object.
// SOURCE: SMC, SMO and CMA, and the search for the best copy on each processor, are Asterope's.
#ifndef LIBSERVICES_IPC_COPY_H_
#define LIBSERVICES_IPC_COPY_H_

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "ipc/copy_kernels.h"
#include "ipc/copy_table.h"

namespace libservices::ipc {

// memcpy by the table, which adopt_table() has checked. What is shorter than a page is libc's.
// REQUIRES: the two ranges do not overlap.
inline void copy_bytes(void* to, const void* from, std::size_t size, const CopyTable& table) {
  if (size < kSmallestTuned) {
    __builtin_memcpy(to, from, size);
  } else {
    copy_by(table.classes[class_of(size)].whole, to, from, size);
  }
}

// One end's object of a strategy. The other end has its own, and calls the opposite function with
// the same size. Both return `size`, or a negative errno: ESRCH when the peer has died.
template <class S>
concept CopyStrategy = requires(S& strategy, const void* from, void* to, std::size_t size) {
  { S::kName } -> std::convertible_to<const char*>;
  { strategy.send(from, size) } -> std::same_as<long>;
  { strategy.receive(to, size) } -> std::same_as<long>;
};

// The receiving half of a pipeline through memory with room for all: takes what has come to be in
// place, as often as one looks. The sending half puts bytes in place one after another and tells
// how many there are, by a release store after each CopyClass::chunk_bytes; in the request path
// that is the stack's read (Context::read_part).
//
// Where both ends share a processor there is nobody to copy meanwhile, and each part that is told
// costs a store and no more.
class ChunkReceiver {
 public:
  ChunkReceiver(void* into, std::size_t size, const std::byte* data, const CopyTable& table)
      : into_(static_cast<std::byte*>(into)),
        data_(data),
        size_(size),
        recipe_(table.classes[class_of(size)].out) {}

  std::size_t taken() const { return taken_; }

  // `in_place` was loaded with acquire from where the sender tells it, and may be a lie: no more
  // than `size` is ever taken. False: there was nothing new.
  bool take_up_to(std::size_t in_place) {
    const std::size_t end = in_place < size_ ? in_place : size_;
    if (end <= taken_) return false;
    const std::size_t part = end - taken_;
    if (part < kSmallestTuned) {
      __builtin_memcpy(into_ + taken_, data_ + taken_, part);
    } else {
      copy_by(recipe_, into_ + taken_, data_ + taken_, part);
    }
    taken_ = end;
    return true;
  }

 private:
  std::byte* into_;
  const std::byte* data_;
  std::size_t size_;
  std::size_t taken_ = 0;
  CopyRecipe recipe_;
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_H_
