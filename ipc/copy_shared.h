// SPDX-License-Identifier: Apache-2.0
//
// The two strategies through shared memory: SMC in whole pieces, SMO as a pipeline.
//
// SMC needs no second processor and is bounded by two copies one after the other. SMO on two
// processors costs about as much as the slower of its two copies, from some 64 KiB on.
//
// Freestanding: the preload library includes it. THREADS: one for each object.
#ifndef LIBSERVICES_IPC_COPY_SHARED_H_
#define LIBSERVICES_IPC_COPY_SHARED_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "ipc/copy.h"
#include "ipc/copy_channel.h"

namespace libservices::ipc {

// How one transfer goes through the ring. A chunk of 0 is the whole ring, or all if that is less.
struct RingWay {
  CopyRecipe recipe;
  std::uint32_t chunk_bytes = 0;
};

// One end of the ring. Every transfer begins at its start, where the caches have it.
class RingEnd {
 public:
  explicit RingEnd(CopyLink link) : link_(link) {}

  long send(RingWay way, const void* from, std::size_t size) {
    const auto* const bytes = static_cast<const std::byte*>(from);
    go_to_start();
    // A full ring, and what was skipped behind it, which the receiver skips when it gets there.
    const std::uint32_t most_unread = 2 * link_.capacity;
    for (std::size_t done = 0; done < size;) {
      const std::uint32_t part = part_at(way.chunk_bytes, size - done);
      std::uint32_t unread = 0;
      const bool room = wait_for_peer(link_, [&] {
        // Pairs with the stores in receive().
        unread = position_ - link_.channel->taken.load(std::memory_order_acquire);
        return unread <= link_.capacity - part || unread > most_unread;
      });
      if (!room) return -ESRCH;
      if (unread > most_unread) return -EPROTO;
      copy_by(way.recipe, at_position(), bytes + done, part);
      position_ += part;
      done += part;
      link_.channel->in_place.store(position_, std::memory_order_release);  // pairs with receive()
    }
    return static_cast<long>(size);
  }

  long receive(RingWay way, void* to, std::size_t size) {
    auto* const bytes = static_cast<std::byte*>(to);
    go_to_start();
    for (std::size_t done = 0; done < size;) {
      const std::uint32_t part = part_at(way.chunk_bytes, size - done);
      std::int32_t ready = 0;  // negative: the sender is still at an earlier transfer
      const bool there = wait_for_peer(link_, [&] {
        // Pairs with the store in send().
        const std::uint32_t in_place = link_.channel->in_place.load(std::memory_order_acquire);
        ready = static_cast<std::int32_t>(in_place - position_);
        return ready >= static_cast<std::int32_t>(part);
      });
      if (!there) return -ESRCH;
      if (ready > static_cast<std::int32_t>(link_.capacity)) return -EPROTO;
      copy_by(way.recipe, bytes + done, at_position(), part);
      position_ += part;
      done += part;
      if (done == size) go_to_start();
      link_.channel->taken.store(position_, std::memory_order_release);  // pairs with send()
    }
    return static_cast<long>(size);
  }

 private:
  void go_to_start() { position_ = (position_ + link_.capacity - 1) & ~(link_.capacity - 1); }
  // The next part: no longer than a chunk, and not across the end of the ring.
  std::uint32_t part_at(std::uint32_t chunk, std::size_t left) const {
    std::size_t part = link_.capacity - position_ % link_.capacity;
    if (part > left) part = left;
    if (chunk != 0 && part > chunk) part = chunk;
    return static_cast<std::uint32_t>(part);
  }
  std::byte* at_position() const { return link_.channel->data + position_ % link_.capacity; }

  CopyLink link_;
  std::uint32_t position_ = 0;  // in all bytes ever, those skipped between two transfers included
};

class Smc {
 public:
  static constexpr const char* kName = "SMC";
  explicit Smc(CopyLink link) : end_(link) {}

  long send(const void* from, std::size_t size) { return end_.send({}, from, size); }
  long receive(void* to, std::size_t size) { return end_.receive({}, to, size); }

 private:
  RingEnd end_;
};
static_assert(CopyStrategy<Smc>);

// REQUIRES: both ends have the same table, and it outlives them.
class Smo {
 public:
  static constexpr const char* kName = "SMO";
  Smo(CopyLink link, const CopyTable& table) : end_(link), table_(table) {}

  long send(const void* from, std::size_t size) {
    const CopyClass& way = table_.classes[class_of(size)];
    return end_.send({way.in, way.chunk_bytes}, from, size);
  }
  long receive(void* to, std::size_t size) {
    const CopyClass& way = table_.classes[class_of(size)];
    return end_.receive({way.out, way.chunk_bytes}, to, size);
  }

 private:
  RingEnd end_;
  const CopyTable& table_;
};
static_assert(CopyStrategy<Smo>);

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_SHARED_H_
