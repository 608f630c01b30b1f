// SPDX-License-Identifier: Apache-2.0
//
// What a service that follows a killed one needs to open its files again: the file `open_files` of
// the run directory, which every service of the pool maps in its turn.
//
// Each open file that an application has a descriptor of has an entry: which placeholder stands for
// it, where it was found, which object it is, and its offset (KeptOffset). An entry is written when
// the file is opened and freed when it is closed; the offset moves with each read and write. None
// of it costs a system call, and it is there whenever the service dies.
//
// An entry says where to look, not who may: the new service opens a file again only for who shows
// its placeholder, and only when what it finds there is the same object.
// THREADS: everything may be called at once, claim() by one thread at a time.
#ifndef LIBSERVICES_SRC_HOST_KEPT_FILES_H_
#define LIBSERVICES_SRC_HOST_KEPT_FILES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "libservices/attributes.h"
#include "libservices/open_file.h"

namespace libservices::host {

class KeptFiles {
 public:
  // One open file's entry; destruction frees it. Empty: the file is not kept.
  class Entry {
   public:
    Entry() = default;
    Entry(Entry&& other) noexcept { *this = std::move(other); }
    Entry& operator=(Entry&& other) noexcept {
      if (owner_ != nullptr) owner_->free(index_);
      owner_ = std::exchange(other.owner_, nullptr);
      index_ = other.index_;
      return *this;
    }
    ~Entry() {
      if (owner_ != nullptr) owner_->free(index_);
    }
    explicit operator bool() const { return owner_ != nullptr; }
    KeptOffset* offset() const { return &owner_->slots_[index_].offset; }
    void set_flags(OpenFlags flags) const {
      if (owner_ != nullptr) owner_->slots_[index_].flags = flags.bits;
    }
    // Of a file whose content dies with the service until it is synchronised (may_lose_writes):
    // before and after each change, and what changes() was before a synchronisation that succeeded.
    void count_change() const {
      if (owner_ != nullptr) owner_->slots_[index_].changes.fetch_add(1);
    }
    std::uint32_t changes() const {
      return owner_ != nullptr ? owner_->slots_[index_].changes.load() : 0;
    }
    void synchronised(std::uint32_t changes) const {
      if (owner_ != nullptr) owner_->slots_[index_].synchronised.store(changes);
    }
    // Where it was found; empty without an entry.
    std::string path() const { return owner_ != nullptr ? owner_->path_at(index_) : std::string(); }
    // Locks are not kept: who had one learns from an error that it is gone.
    void had_locks() const {
      if (owner_ != nullptr) owner_->slots_[index_].had_locks.store(1, std::memory_order_relaxed);
    }

   private:
    friend class KeptFiles;
    Entry(KeptFiles* owner, std::uint32_t index) : owner_(owner), index_(index) {}
    KeptFiles* owner_ = nullptr;
    std::uint32_t index_ = 0;
  };

  // An open file of a service that is dead.
  struct Lost {
    Entry entry;
    std::string mount;  // the path of its instance
    std::string path;   // in it
    int flags = 0;
    std::uint32_t mode = 0;
    std::uint64_t object = 0;  // st_ino
    Timestamp born;
    bool had_locks = false;
    bool lost_changes = false;  // perhaps
    std::uint64_t before = 0;  // the last move of its offset, and whose it was
    std::uint64_t offset = 0;
    std::uint32_t number = 0;
  };

  // The file is made in `directory`, or taken over.
  explicit KeptFiles(std::string directory) : path_(std::move(directory) + "/open_files") {}
  KeptFiles(const KeptFiles&) = delete;
  KeptFiles& operator=(const KeptFiles&) = delete;
  ~KeptFiles();

  // ERRORS: for a person to read.
  absl::Status start();
  // The service ends for good, and nobody shall open its files again.
  void remove();

  // Keeps an open file whose placeholder is `placeholder` (st_ino). Empty when there is no room for
  // it, or its path is too long.
  Entry keep(std::uint64_t placeholder, std::string_view mount, std::string_view path,
             const OpenFile& file, const Attributes& attributes);
  // A path has another name now: entries at it and below it follow.
  void renamed(std::string_view mount, std::string_view from, std::string_view to);

  // A file (st_ino) that somebody has mapped to be written: mappings outlive their service.
  void keep_mapped(std::uint64_t object);
  // Those of earlier services.
  struct Mapped {
    std::vector<std::uint64_t> objects;
    bool others = false;  // they were too many
  };
  Mapped mapped() const;

  // What a dead service kept of this placeholder, once.
  std::optional<Lost> claim(std::uint64_t placeholder);

  std::size_t kept() const;

 private:
  static constexpr std::uint64_t kMagic = 0x3273656c6966736cULL;  // "lsfiles2"
  static constexpr std::uint32_t kSlots = 16384;
  static constexpr std::uint32_t kSlotsAtOnce = 64;
  static constexpr std::size_t kText = 400;

  struct Slot {
    std::atomic<std::uint64_t> placeholder;  // 0: free, or being written
    std::uint64_t object;
    std::int64_t born_seconds;
    std::uint32_t born_nanoseconds;
    std::uint32_t mode;
    std::int32_t flags;
    std::atomic<std::uint32_t> had_locks;
    std::atomic<std::uint32_t> changes;
    std::atomic<std::uint32_t> synchronised;
    std::uint16_t mount_bytes;
    std::uint16_t path_bytes;
    std::uint32_t reserved;
    KeptOffset offset;
    char text[kText];  // the mount's path, then the path in it
  };
  static_assert(sizeof(Slot) == 512);
  static constexpr std::uint64_t kMostMapped = 62;
  struct Head {
    std::uint64_t magic;
    std::atomic<std::uint64_t> mapped_count;  // above kMostMapped: and others
    std::uint64_t mapped[kMostMapped];
  };
  static_assert(sizeof(Head) == 512);
  static constexpr std::size_t kBytes = sizeof(Head) + kSlots * sizeof(Slot);

  void free(std::uint32_t index);
  std::string path_at(std::uint32_t index) const;
  std::optional<std::uint32_t> take_slot();
  void take_over();
  Head& head() const { return *static_cast<Head*>(memory_); }

  const std::string path_;
  int file_ = -1;
  void* memory_ = nullptr;
  Slot* slots_ = nullptr;

  mutable std::mutex mutex_;
  std::uint32_t used_ = 0;           // slots that were ever in use; this and the rest: by mutex_
  std::uint32_t allocated_ = 0;      // slots that have memory
  std::vector<std::uint32_t> free_;  // of the used ones
  absl::flat_hash_map<std::uint64_t, std::uint32_t> lost_;  // a dead service's, by placeholder
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_KEPT_FILES_H_
