// SPDX-License-Identifier: Apache-2.0
//
// Whether memory that a program names can be used: a wild address is EFAULT, as of a system call.
//
// A page that was found good once is remembered and not asked about again (a few nanoseconds
// instead of a system call of some 100), until the program takes a mapping away or protects it:
// forget_addresses(). What libc unmaps by itself, such as a large block that is freed, is not
// noticed: who uses that afterwards may end with SIGSEGV, as with a plain load or store.
//
// THREADS: everything may be called at once, in signal handlers too.
#ifndef LIBSERVICES_SRC_CLIENT_ADDRESSES_H_
#define LIBSERVICES_SRC_CLIENT_ADDRESSES_H_

#include <errno.h>
#include <string.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "src/client/state.h"

namespace libservices::client {

enum class Use : std::uint8_t { kRead = 1, kWrite = 2 };

inline constexpr std::uintptr_t kPageBytes = 4096;
inline constexpr std::size_t kKnownPages = 256;
// A page's address, and in its low bits what it is good for. 0: none.
extern std::atomic<std::uintptr_t> known_pages[kKnownPages];

// Asks the kernel, and remembers a yes.
bool ask_about_page(std::uintptr_t page, Use use);

inline bool is_usable_page(std::uintptr_t page, Use use) {
  const auto& slot =
      known_pages[(page / kPageBytes ^ page / kPageBytes / kKnownPages) % kKnownPages];
  const std::uintptr_t known = slot.load(std::memory_order_relaxed);
  if (known == (page | 3U)) return true;
  return (use == Use::kRead && known == (page | 1U)) || ask_about_page(page, use);
}

// No address of any program: refused before a file is looked at.
inline bool is_beyond(const void* address, std::size_t size) {
  std::uintptr_t end = 0;
  return __builtin_add_overflow(reinterpret_cast<std::uintptr_t>(address), size, &end) ||
         end > static_cast<std::uintptr_t>(INTPTR_MAX);
}

// How many of the `size` bytes can be used before the first one that cannot. In the middle of more
// than 64 KiB, what is mapped counts as usable.
std::size_t usable_part(std::uintptr_t address, std::size_t size, Use use);

inline std::size_t readable_part(const void* from, std::size_t size) {
  return usable_part(reinterpret_cast<std::uintptr_t>(from), size, Use::kRead);
}
inline std::size_t writable_part(void* into, std::size_t size) {
  return usable_part(reinterpret_cast<std::uintptr_t>(into), size, Use::kWrite);
}
inline bool readable(const void* from, std::size_t size) {
  return readable_part(from, size) == size;
}
inline bool writable(void* into, std::size_t size) { return writable_part(into, size) == size; }

// A path or another text up to its NUL. 0, -EFAULT, or -ENAMETOOLONG for kPathBytes and more.
inline long check_text(const char* text) {
  auto address = reinterpret_cast<std::uintptr_t>(text);
  for (std::size_t bytes = 0; bytes < kPathBytes;) {
    if (!is_usable_page(address & ~(kPageBytes - 1), Use::kRead)) return -EFAULT;
    const std::size_t left = kPageBytes - address % kPageBytes;
    if (strnlen(reinterpret_cast<const char*>(address), left) < left) return 0;
    bytes += left;
    address += left;
  }
  return -ENAMETOOLONG;
}

// Mappings of the process have gone, or are protected otherwise.
void forget_addresses();

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_ADDRESSES_H_
