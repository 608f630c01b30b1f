// SPDX-License-Identifier: Apache-2.0
#include "src/client/addresses.h"

#include <linux/futex.h>
#include <sys/mman.h>

namespace libservices::client {

constinit std::atomic<std::uintptr_t> known_pages[kKnownPages]{};

namespace {

constexpr std::size_t kMostPagesOneByOne = 16;  // beyond, one system call is nothing to the copy

// SOURCE: rt_sigprocmask(2) reads the set before it looks at what to do with it.
bool can_read(std::uintptr_t page) {
  constexpr int kNothing = -1;
  return raw::syscall(SYS_rt_sigprocmask, kNothing, page, nullptr, 8) == -EINVAL;
}

// An atomic "or" with 0, done by the kernel. It may wake who waits for the word (spuriously, as
// futex(2) allows); nobody waits for `unused`.
bool can_write(std::uintptr_t page) {
  static constinit std::uint32_t unused = 0;
  constexpr unsigned kOperation = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_LT, -2048);
  return raw::syscall(SYS_futex, &unused, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, page,
                      kOperation) != -EFAULT;
}

// Whether all of it is mapped, however it is protected.
bool is_mapped(std::uintptr_t page, std::size_t bytes) {
  return raw::syscall(SYS_msync, page, bytes, MS_ASYNC) != -ENOMEM;
}

}  // namespace

bool ask_about_page(std::uintptr_t page, Use use) {
  // What can be written can be read. To read first would be one more fault, for a page of zeros.
  if (page == 0 || !(use == Use::kWrite ? can_write(page) : can_read(page))) return false;
  auto& slot = known_pages[(page / kPageBytes ^ page / kPageBytes / kKnownPages) % kKnownPages];
  slot.store(page | (use == Use::kWrite ? 3U : 1U), std::memory_order_relaxed);
  return true;
}

std::size_t usable_part(std::uintptr_t address, std::size_t size, Use use) {
  if (size == 0) return 0;
  const std::uintptr_t first = address & ~(kPageBytes - 1);
  std::uintptr_t end = 0;
  if (__builtin_add_overflow(address, size, &end)) end = ~(kPageBytes - 1);
  const std::uintptr_t last = (end - 1) & ~(kPageBytes - 1);
  if (last - first >= kMostPagesOneByOne * kPageBytes && is_usable_page(first, use) &&
      is_usable_page(last, use) && is_mapped(first, last - first)) {
    return size;
  }
  for (std::uintptr_t page = first;; page += kPageBytes) {
    if (!is_usable_page(page, use)) return page <= address ? 0 : page - address;
    if (page == last) return end - address < size ? end - address : size;
  }
}

void forget_addresses() {
  for (auto& slot : known_pages) slot.store(0, std::memory_order_relaxed);
}

}  // namespace libservices::client
