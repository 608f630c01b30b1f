// SPDX-License-Identifier: Apache-2.0
//
// The mapping of files of ours; and where the program takes memory away or protects it, addresses
// that were good may be bad.
#include <stdarg.h>
#include <sys/mman.h>

#include "src/client/addresses.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {

LIBSERVICES_EXPORT void* ls_mmap(void* address, std::size_t size, int protection, int flags,
                                 int descriptor, off_t offset) {
  const Call call(Symbol::mmap);
  const long mapped = calls::mmap(address, size, protection, flags, descriptor, offset);
  if ((flags & MAP_FIXED) != 0) client::forget_addresses();  // what was there has gone
  return reinterpret_cast<void*>(result(mapped));
}

LIBSERVICES_EXPORT int ls_munmap(void* address, std::size_t size) {
  const Call call(Symbol::munmap);
  const long error = raw::syscall(SYS_munmap, address, size);
  client::forget_addresses();
  return int_result(error);
}

LIBSERVICES_EXPORT int ls_mprotect(void* address, std::size_t size, int protection) {
  const Call call(Symbol::mprotect);
  const long error = raw::syscall(SYS_mprotect, address, size, protection);
  client::forget_addresses();
  return int_result(error);
}

LIBSERVICES_EXPORT void* ls_mremap(void* address, std::size_t size, std::size_t new_size, int flags,
                                   ...) {
  const Call call(Symbol::mremap);
  va_list arguments;
  va_start(arguments, flags);
  void* const target = va_arg(arguments, void*);
  va_end(arguments);
  const long moved = raw::syscall(SYS_mremap, address, size, new_size, flags, target);
  client::forget_addresses();
  return reinterpret_cast<void*>(result(moved));
}

}  // namespace libservices::preload
