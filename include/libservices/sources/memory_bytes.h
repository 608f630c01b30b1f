// SPDX-License-Identifier: Apache-2.0
//
// The content of one file of `Memory`: pages of its own, or, once somebody has asked for a
// descriptor of it, a memfd. Who has that reads and writes it without a call here.
//
// While there is a memfd its size, blocks and times of change are the file's: show() adds to the
// attributes what others have done, and settle() makes it lasting before a change of one's own.
//
// THREADS: const members may run at once; the owner orders everything else.
// OWNS: pages of its budget, or the memfd, which lives as long as somebody holds descriptor().
#ifndef LIBSERVICES_SOURCES_MEMORY_BYTES_H_
#define LIBSERVICES_SOURCES_MEMORY_BYTES_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "libservices/attributes.h"
#include "libservices/result.h"
#include "libservices/sources/sparse_bytes.h"

namespace libservices::internal {

class MemoryDescriptor {
 public:
  explicit MemoryDescriptor(int fd) : fd_(fd) {}
  ~MemoryDescriptor() { ::close(fd_); }
  MemoryDescriptor(const MemoryDescriptor&) = delete;
  MemoryDescriptor& operator=(const MemoryDescriptor&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

class MemoryBytes {
 public:
  using Descriptor = std::shared_ptr<const MemoryDescriptor>;

  explicit MemoryBytes(std::shared_ptr<PageBudget> budget)
      : budget_(budget), pages_(std::move(budget)) {}
  ~MemoryBytes() { budget_->give_back(charged_); }
  MemoryBytes(const MemoryBytes&) = delete;
  MemoryBytes& operator=(const MemoryBytes&) = delete;

  // Null while it is in pages.
  const Descriptor& descriptor() const { return descriptor_; }
  // Whether somebody else holds descriptor(), and may write.
  bool is_in_use() const { return is_lent_ || descriptor_.use_count() > 1; }
  // From now on others have the memfd without holding descriptor(). REQUIRES: descriptor().
  void lend() { is_lent_ = true; }

  void show(Attributes& seen) const {
    if (!descriptor_) {
      seen.blocks = pages_.pages() * (kPageBytes / 512);
      return;
    }
    struct stat now {};
    if (::fstat(fd(), &now) == 0) take(now, seen);
  }
  void settle(Attributes& attributes) {
    struct stat now {};
    if (!descriptor_ || ::fstat(fd(), &now) != 0) return;
    take(now, attributes);
    modified_ = modified_of(now);
    recharge(attributes.blocks * 512 / kPageBytes);
  }
  // A change that the owner has put down in the attributes.
  void changed() {
    struct stat now {};
    if (descriptor_ && ::fstat(fd(), &now) == 0) modified_ = modified_of(now);
  }

  // As much as there is of `into`, which lies within the size that the owner knows.
  Result<std::size_t> read(std::uint64_t offset, std::span<std::byte> into) const {
    if (descriptor_) return read_from(fd(), offset, into);
    pages_.read(offset, into);
    return into.size();
  }

  // How much was written: less than `from.size()` when there is no more room.
  std::size_t write(std::uint64_t offset, std::span<const std::byte> from) {
    if (!descriptor_) return pages_.write(offset, from);
    std::size_t done = 0;
    while (done < from.size()) {
      const ssize_t count =
          ::pwrite(fd(), from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      done += static_cast<std::size_t>(count);
    }
    return done;
  }

  // Behind the end as it is then, also if others write there. REQUIRES: descriptor().
  // Returns the new end. ERRORS: ENOSPC.
  Result<std::uint64_t> append(std::span<const std::byte> from, std::size_t& written) {
    const iovec part{const_cast<std::byte*>(from.data()), from.size()};
    const ssize_t count = ::pwritev2(fd(), &part, 1, -1, RWF_APPEND);
    const off_t end = ::lseek(fd(), 0, SEEK_CUR);
    if (count <= 0 || end < 0) return Errno{ENOSPC};
    written = static_cast<std::size_t>(count);
    return static_cast<std::uint64_t>(end);
  }

  enum class Allocate { kKeepSize, kGrow };
  // Storage for a range. False when there is no more room.
  bool allocate(std::uint64_t offset, std::uint64_t length, Allocate how) {
    if (!descriptor_) return pages_.allocate(offset, length);
    const int mode = how == Allocate::kKeepSize ? FALLOC_FL_KEEP_SIZE : 0;
    return call_fallocate(mode, offset, length);
  }
  // Zeros in a range, whose storage is given back.
  bool erase(std::uint64_t offset, std::uint64_t length) {
    if (descriptor_) {
      return call_fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    }
    pages_.erase(offset, length);
    return true;
  }
  Result<void> resize(std::uint64_t from, std::uint64_t to) {
    if (descriptor_) {
      if (::ftruncate(fd(), static_cast<off_t>(to)) != 0) return last_errno();
    } else if (to < from) {
      pages_.truncate(to);
    }
    return {};
  }
  // Drops storage behind the end.
  void trim(std::uint64_t size) {
    if (!descriptor_) pages_.truncate(size);
  }

  // UINT64_MAX: there is none.
  std::uint64_t next_data(std::uint64_t offset) const {
    return descriptor_ ? seek(offset, SEEK_DATA) : pages_.next_data(offset);
  }
  std::uint64_t next_hole(std::uint64_t offset) const {
    return descriptor_ ? seek(offset, SEEK_HOLE) : pages_.next_hole(offset);
  }

  // From pages to a memfd. ERRORS: of memfd_create and write; then nothing has changed.
  Result<void> move_out(std::uint64_t size) {
    auto made = std::make_shared<const MemoryDescriptor>(create());
    if (made->fd() < 0) return last_errno();
    if (::ftruncate(made->fd(), static_cast<off_t>(size)) != 0) return last_errno();
    std::vector<std::byte> buffer(kAtOnce);
    for (std::uint64_t at = pages_.next_data(0); at < size;) {
      const std::uint64_t end = std::min({pages_.next_hole(at), size, at + kAtOnce});
      const auto bytes = std::span(buffer).first(end - at);
      pages_.read(at, bytes);
      for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t count = ::pwrite(made->fd(), bytes.data() + done, bytes.size() - done,
                                       static_cast<off_t>(at + done));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return Errno{ENOSPC};
        done += static_cast<std::size_t>(count);
      }
      at = pages_.next_data(end);
    }
    const std::uint64_t held = pages_.pages();
    pages_.truncate(0);
    descriptor_ = std::move(made);
    recharge(held);
    changed();
    return {};
  }

  // And back, if nobody holds the descriptor. ERRORS: ENOSPC; then nothing has changed.
  Result<void> move_back(Attributes& attributes) {
    settle(attributes);
    std::vector<std::byte> buffer(kAtOnce);
    for (std::uint64_t at = next_data(0); at < attributes.size;) {
      const std::uint64_t end = std::min({next_hole(at), attributes.size, at + kAtOnce});
      const auto bytes = std::span(buffer).first(end - at);
      auto count = read_from(fd(), at, bytes);
      if (!count.ok() || *count != bytes.size() || pages_.write(at, bytes) != bytes.size()) {
        pages_.truncate(0);
        return Errno{ENOSPC};
      }
      at = end < attributes.size ? next_data(end) : end;
    }
    descriptor_.reset();
    recharge(0);
    return {};
  }

 private:
  static constexpr std::uint64_t kAtOnce = 256 * 1024;  // bytes

  int fd() const { return descriptor_->fd(); }
  void take(const struct stat& now, Attributes& into) const {
    into.size = static_cast<std::uint64_t>(now.st_size);
    into.blocks = static_cast<std::uint64_t>(now.st_blocks);
    if (modified_of(now) != modified_) into.mtime = into.ctime = modified_of(now);
  }
  static Timestamp modified_of(const struct stat& now) {
    return {now.st_mtim.tv_sec, static_cast<std::uint32_t>(now.st_mtim.tv_nsec), 0};
  }
  static int create() {
    constexpr unsigned kNoExecSeal = 8;  // MFD_NOEXEC_SEAL, since Linux 6.3
    int made = ::memfd_create("libservices", MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal);
    if (made < 0 && errno == EINVAL) made = ::memfd_create("libservices", MFD_CLOEXEC);
    // Who is given one that is open for reading shall not open it anew to write there, and who
    // may write shall not keep others from it.
    if (made >= 0 && ::fchmod(made, 0600) != 0) return close_failed(made);
    if (made >= 0) (void)::fcntl(made, F_ADD_SEALS, F_SEAL_SEAL);
    return made;
  }
  static int close_failed(int fd) {
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
  }
  static Result<std::size_t> read_from(int fd, std::uint64_t offset, std::span<std::byte> into) {
    std::size_t done = 0;
    while (done < into.size()) {
      const ssize_t count =
          ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return last_errno();
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    return done;
  }
  bool call_fallocate(int mode, std::uint64_t offset, std::uint64_t length) {
    int done = 0;
    do {
      done = ::fallocate(fd(), mode, static_cast<off_t>(offset), static_cast<off_t>(length));
    } while (done != 0 && errno == EINTR);
    return done == 0;
  }
  std::uint64_t seek(std::uint64_t offset, int whence) const {
    const off_t found = ::lseek(fd(), static_cast<off_t>(offset), whence);
    return found < 0 ? UINT64_MAX : static_cast<std::uint64_t>(found);
  }
  // What a memfd holds counts as much as pages do.
  void recharge(std::uint64_t pages) {
    budget_->charge(pages);
    budget_->give_back(std::exchange(charged_, pages));
  }

  std::shared_ptr<PageBudget> budget_;
  SparseBytes pages_;
  Descriptor descriptor_;
  Timestamp modified_;         // of the memfd, as far as the attributes know it
  std::uint64_t charged_ = 0;  // pages
  bool is_lent_ = false;
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_SOURCES_MEMORY_BYTES_H_
