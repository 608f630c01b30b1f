// SPDX-License-Identifier: Apache-2.0
#include "services/local/mapped_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace libservices::local_internal {
namespace {

constexpr std::uint64_t kReadBefore = 16U << 20U;   // of a larger file
constexpr std::uint64_t kMostMapped = 1ULL << 30U;  // larger files are read by call
constexpr std::array<std::uint64_t, 6> kFileSystems = {
    EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,        BTRFS_SUPER_MAGIC,
    TMPFS_MAGIC,      0xe0f5e1e2 /* erofs */, 0x73717368 /* squashfs */};

// The copy from a mapping that this thread is in.
struct Copy {
  sigjmp_buf out;
  const std::byte* begin;
  const std::byte* end;
};
thread_local Copy* volatile copying = nullptr;
struct sigaction before;

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const auto* const address = static_cast<const std::byte*>(info->si_addr);
  if (Copy* const copy = copying;
      copy != nullptr && address >= copy->begin && address < copy->end) {
    sigset_t bus;  // it is blocked here if somebody else's handler has called this one
    ::sigemptyset(&bus);
    ::sigaddset(&bus, SIGBUS);
    ::pthread_sigmask(SIG_UNBLOCK, &bus, nullptr);
    siglongjmp(copy->out, 1);
  }
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    ::sigaction(signal, &before, nullptr);  // the instruction faults again
  }
}

void catch_bus_errors() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    // Not blocked in the handler, which may leave by a jump: so no mask has to be restored.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    ::sigaction(SIGBUS, &action, &before);
  });
}

// False: the pages went away. In a function of its own: nothing in it is live across the jump.
[[gnu::noinline]] bool copy_out(std::byte* to, const std::byte* from, std::size_t size) {
  Copy copy;
  copy.begin = from;
  copy.end = from + size;
  if (sigsetjmp(copy.out, 0) != 0) {
    copying = nullptr;
    return false;
  }
  copying = &copy;
#if defined(__x86_64__)
  // Faster than memcpy on pages that are in no cache of this processor (ipc/copy_table.h), and no
  // function of a sanitizer to jump out of.
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
#else
  std::memcpy(to, from, size);
#endif
  copying = nullptr;
  return true;
}

bool may_be_mapped(int fd) {
  struct statfs volume {};
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) == 0 && ::fstatfs(fd, &volume) == 0 &&
         std::find(kFileSystems.begin(), kFileSystems.end(),
                   static_cast<std::uint64_t>(volume.f_type) & 0xffffffffU) != kFileSystems.end();
}

}  // namespace

MappedFile::Mapping::~Mapping() { ::munmap(const_cast<std::byte*>(address), bytes); }

std::shared_ptr<const MappedFile::Mapping> MappedFile::mapping_for(int fd, std::uint64_t size) {
  std::lock_guard lock(mutex_);
  if (mapping_ != nullptr && mapping_->bytes >= size) return mapping_;
  if (mapping_ == nullptr && !may_be_mapped(fd)) {
    refused_.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  catch_bus_errors();
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) {
    refused_.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  mapping_ = std::make_shared<const Mapping>(address, size);
  return mapping_;
}

std::optional<std::size_t> MappedFile::read(int fd, std::uint64_t offset,
                                            std::span<std::byte> into) {
  if (refused_.load(std::memory_order_relaxed)) return std::nullopt;
  struct stat status {};
  const std::uint64_t read = read_.load(std::memory_order_relaxed);
  if (read < kReadBefore && (read == 0 || offset >= read)) {  // perhaps for the first time
    read_.fetch_add(into.size(), std::memory_order_relaxed);
    return std::nullopt;
  }
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > kMostMapped) {
    refused_.store(true, std::memory_order_relaxed);
    return std::nullopt;
  }
  if (offset >= size) return 0;
  if (read < std::min(size, kReadBefore)) {
    read_.fetch_add(into.size(), std::memory_order_relaxed);
    return std::nullopt;
  }
  const auto mapping = mapping_for(fd, size);
  if (mapping == nullptr) return std::nullopt;
  const std::size_t count = std::min<std::uint64_t>(into.size(), size - offset);
  if (!copy_out(into.data(), mapping->address + offset, count)) return std::nullopt;
  return count;
}

}  // namespace libservices::local_internal
