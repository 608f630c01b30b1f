// SPDX-License-Identifier: Apache-2.0
//
// A ring of io_uring with places for requests of the kernel. Included by rings.cc alone.
#ifndef LIBSERVICES_SRC_FUSE_RING_H_
#define LIBSERVICES_SRC_FUSE_RING_H_

#include <liburing.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "src/fuse/abi.h"
#include "src/fuse/carrier.h"
#include "src/fuse/message.h"
#include "src/fuse/room.h"

namespace libservices::fuse {

// Where the kernel puts one request, and we its answer.
class Place {
 public:
  explicit Place(std::uint16_t queue)
      : queue_(queue),
        room_(kHeaderRoom + kPayloadRoom),
        parts_{
            {{room_.bytes().data(), sizeof(abi::RingHeader)}, {payload().data(), kPayloadRoom}}} {}

  bool ok() const { return room_.ok(); }
  std::uint16_t queue() const { return queue_; }
  std::span<const iovec> parts() const { return parts_; }
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
  std::span<std::byte> payload() { return room_.bytes().subspan(kHeaderRoom); }
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

 private:
  static constexpr std::size_t kHeaderRoom = 4096;

  abi::RingHeader& header() { return *reinterpret_cast<abi::RingHeader*>(room_.bytes().data()); }
  const abi::RingHeader& header() const {
    return *reinterpret_cast<const abi::RingHeader*>(room_.bytes().data());
  }

  const std::uint16_t queue_;
  const Room room_;
  const std::array<iovec, 2> parts_;
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
