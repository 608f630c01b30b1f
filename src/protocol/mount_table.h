// SPDX-License-Identifier: Apache-2.0
//
// The mount table: which paths of an application belong to which filesystem instance.
//
// The service publishes it as the file `mounts` in the pool's run directory; the library maps it
// read-only, so a change is seen by every process at once and a program that never touches a
// mount never talks to the service. A lookup hashes the path once, from left to right, and probes
// at each '/', only for prefix lengths that occur: a path that is not ours costs a few nanoseconds.
//
// It also tells what a session would have to ask for otherwise: how long to wait for a restart,
// and the copy table.
//
// Writers (the service alone) change it under the sequence word: odd while it changes.
// Freestanding, as messages.h.
#ifndef LIBSERVICES_SRC_PROTOCOL_MOUNT_TABLE_H_
#define LIBSERVICES_SRC_PROTOCOL_MOUNT_TABLE_H_

#include <atomic>
#include <cstdint>

#include "ipc/copy_table.h"

namespace libservices::protocol {

inline constexpr std::uint64_t kMountTableMagic = 0x31746e756f6d736cULL;  // "lsmount1"
inline constexpr std::uint32_t kMountTableVersion = 2;
inline constexpr unsigned kMostMounts = 64;
inline constexpr unsigned kMountSlots = 256;  // power of two, at least four times kMostMounts
inline constexpr unsigned kMostMountPath = 255;

struct MountEntry {
  std::uint64_t hash = 0;      // of the path; 0 = empty slot
  std::uint32_t instance = 0;
  std::uint32_t path_bytes = 0;
  char path[kMostMountPath + 1] = {};  // absolute, normalised, no '/' at the end
};

struct MountTable {
  std::uint64_t magic = kMountTableMagic;
  std::uint32_t version = kMountTableVersion;
  std::uint32_t count = 0;
  std::atomic<std::uint32_t> sequence{0};
  std::uint32_t longest = 0;   // bytes of the longest mount path
  std::uint64_t service = 0;   // pid of the service, for messages
  std::uint64_t number = 0;    // tells it from the tables of other services; a session is told too
  std::uint64_t placeholder_device = 0;  // st_dev of its placeholders (placeholder.h)
  // How long to wait for another service when this one is gone; 0 once it has stopped in order.
  std::atomic<std::uint32_t> restart_wait_ms{0};
  std::uint32_t reserved = 0;
  ipc::CopyTable copies;  // how to copy on this processor: for ipc::adopt_table()
  MountEntry slots[kMountSlots];
};

inline constexpr std::uint64_t kMountHashSeed = 0xcbf29ce484222325ULL;
constexpr std::uint64_t mount_hash_step(std::uint64_t hash, char byte) {
  return (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3ULL;  // FNV-1a
}

struct MountMatch {
  bool found = false;
  std::uint32_t instance = 0;
  std::uint32_t mount_bytes = 0;  // length of the mount's path; the rest is the path inside it
};

// The mount with the longest path that is `path` itself or a parent of it. `path` is absolute and
// normalised: no ".", no "..", no "//", no '/' at the end.
inline MountMatch find_mount(const MountTable& table, const char* path, unsigned path_bytes) {
  for (;;) {
    const std::uint32_t before = table.sequence.load(std::memory_order_acquire);
    MountMatch best;
    std::uint64_t hash = kMountHashSeed;
    const unsigned limit = path_bytes < table.longest ? path_bytes : table.longest;
    for (unsigned i = 0; i < limit; ++i) {
      hash = mount_hash_step(hash, path[i]);
      if (i + 1 != path_bytes && path[i + 1] != '/') continue;
      for (unsigned probe = 0; probe < kMountSlots; ++probe) {
        const MountEntry& slot = table.slots[(hash + probe) & (kMountSlots - 1)];
        if (slot.hash == 0) break;
        if (slot.hash != hash || slot.path_bytes != i + 1) continue;
        bool equal = true;
        for (unsigned k = 0; k <= i; ++k) equal = equal && slot.path[k] == path[k];
        if (equal) best = {true, slot.instance, i + 1};
      }
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if ((before & 1U) == 0 && table.sequence.load(std::memory_order_relaxed) == before) return best;
  }
}

}  // namespace libservices::protocol

#endif  // LIBSERVICES_SRC_PROTOCOL_MOUNT_TABLE_H_
