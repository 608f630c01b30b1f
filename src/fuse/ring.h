// SPDX-License-Identifier: Apache-2.0
//
// A ring of io_uring with places for requests of the kernel. Included by rings.cc alone.
#ifndef LIBSERVICES_SRC_FUSE_RING_H_
#define LIBSERVICES_SRC_FUSE_RING_H_

#include <liburing.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "src/fuse/abi.h"
#include "src/fuse/carrier.h"
#include "src/fuse/message.h"

namespace libservices::fuse {

// Where the kernel puts one request, and we its answer. The memory is mapped twice: where the kernel
// looks, and where we do.
class Place {
 public:
  explicit Place(std::uint16_t queue) : Place(queue, nullptr) {}
  ~Place() {
    if (view_ != nullptr) ::munmap(view_, kSize);
    if (kernels_ != nullptr) ::munmap(kernels_, kSize);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  bool ok() const { return view_ != nullptr && kernels_ != nullptr; }
  std::uint16_t queue() const { return queue_; }
  std::span<const iovec> parts() {
    parts_ = {{{kernels_, sizeof(abi::RingHeader)}, {kernels_ + kHeaderRoom, kPayloadRoom}}};
    return parts_;
  }
  std::uint64_t commit_id() const { return header().commit_id; }

  Result<void> decode(Message& message) {
    fuse_in_header in;
    std::memcpy(&in, header().in_out, sizeof in);
    message.header = in;
    const std::size_t rest = header().payload_bytes;
    if (rest > kPayloadRoom || in.len < sizeof in + rest) return Errno{EIO};
    const std::size_t fixed = in.len - sizeof in - rest;
    if (fixed > sizeof header().fixed) return Errno{EIO};
    std::span<const std::byte> bytes = payload().first(rest);
    const Form* const form = form_of(in.opcode);
    if (form != nullptr && form->names != 0) {  // the answer takes the same place
      aside_.assign(bytes.begin(), bytes.end());
      bytes = aside_;
    }
    return fuse::decode(in, std::span(header().fixed).first(fixed), bytes, message);
  }
  std::span<std::byte> payload() { return {view_ + kHeaderRoom, kPayloadRoom}; }
  void put(std::uint64_t unique, const Reply& reply) {
    const std::size_t size = reply.error != 0 ? 0 : reply.fixed_bytes + reply.payload.size();
    const fuse_out_header out{static_cast<std::uint32_t>(sizeof(fuse_out_header) + size),
                              -reply.error, unique};
    std::memcpy(header().in_out, &out, sizeof out);
    header().payload_bytes = static_cast<std::uint32_t>(size);
    if (size == 0) return;
    if (!reply.payload.empty() &&
        (reply.fixed_bytes != 0 || reply.payload.data() != payload().data())) {
      std::memmove(payload().data() + reply.fixed_bytes, reply.payload.data(),
                   reply.payload.size());
    }
    std::memcpy(payload().data(), reply.fixed.data(), reply.fixed_bytes);
  }

  // The place in other memory, with an error for an answer: this one has only what it sees, with
  // which its thread goes on, and no part in what the kernel does there. Null: there is no memory.
  std::unique_ptr<Place> renew(std::uint64_t unique, int error) {
    std::unique_ptr<Place> other(new Place(queue_, kernels_));
    if (!other->ok()) return nullptr;
    kernels_ = nullptr;
    std::memcpy(&other->header(), &header(), sizeof header());
    Reply reply;
    reply.error = error;
    other->put(unique, reply);
    return other;
  }

 private:
  static constexpr std::size_t kHeaderRoom = 4096;
  static constexpr std::size_t kSize = kHeaderRoom + kPayloadRoom;

  // The kernel looks at `kernels`, whatever was there; null: anywhere.
  Place(std::uint16_t queue, std::byte* kernels) : queue_(queue) {
    const int memory = ::memfd_create("libservices-fuse", MFD_CLOEXEC);
    if (memory < 0) return;
    if (::ftruncate(memory, kSize) == 0) {
      view_ = map(nullptr, memory);
      if (view_ != nullptr) kernels_ = map(kernels, memory);
    }
    ::close(memory);
  }
  static std::byte* map(std::byte* at, int memory) {
    void* const mapped = ::mmap(at, kSize, PROT_READ | PROT_WRITE,
                                MAP_SHARED | (at != nullptr ? MAP_FIXED : 0), memory, 0);
    return mapped == MAP_FAILED ? nullptr : static_cast<std::byte*>(mapped);
  }

  abi::RingHeader& header() { return *reinterpret_cast<abi::RingHeader*>(view_); }
  const abi::RingHeader& header() const { return *reinterpret_cast<const abi::RingHeader*>(view_); }

  const std::uint16_t queue_;
  std::byte* view_ = nullptr;
  std::byte* kernels_ = nullptr;
  std::array<iovec, 2> parts_{};
  std::vector<std::byte> aside_;
};

// Of one thread, which alone uses it.
class Ring {
 public:
  Ring(int device, std::size_t places) : device_(device) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    ok_ = ::io_uring_queue_init_params(static_cast<unsigned>(places), &ring_, &params) == 0;
  }
  ~Ring() {
    if (ok_) ::io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool ok() const { return ok_; }

  // For requests from now on.
  void add(Place& place) {
    prepare(place, abi::kRingRegister, place.parts(), {0, 0, place.queue(), {}});
  }
  // Its answer, and for the next request. The place may have been another ring's.
  void commit(Place& place) {
    prepare(place, abi::kRingCommitAndFetch, {}, {0, place.commit_id(), place.queue(), {}});
  }

  void submit() { (void)::io_uring_submit(&ring_); }

  struct Arrival {
    Place* place = nullptr;  // null: a signal came
    bool gone = false;       // the connection, or a place that the kernel does not want
  };
  Arrival wait() {
    io_uring_cqe* entry = nullptr;
    if (::io_uring_sq_ready(&ring_) != 0 || ::io_uring_peek_cqe(&ring_, &entry) != 0) {
      const int waited = ::io_uring_submit_and_wait(&ring_, 1);
      if (waited < 0 && waited != -EINTR) return {nullptr, true};
      if (::io_uring_peek_cqe(&ring_, &entry) != 0) return {};
    }
    const Arrival arrival{static_cast<Place*>(::io_uring_cqe_get_data(entry)), entry->res < 0};
    ::io_uring_cqe_seen(&ring_, entry);
    return arrival;
  }

 private:
  void prepare(Place& place, std::uint32_t command, std::span<const iovec> parts,
               const abi::RingCommand& words) {
    io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) return;  // never: there are as many as places
    ::io_uring_prep_rw(IORING_OP_URING_CMD, entry, device_, parts.data(),
                       static_cast<unsigned>(parts.size()), 0);
    entry->cmd_op = command;
    ::io_uring_sqe_set_data(entry, &place);
    std::memcpy(entry->cmd, &words, sizeof words);
  }

  const int device_;
  bool ok_ = false;
  io_uring ring_{};
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_RING_H_
