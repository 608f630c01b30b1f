// SPDX-License-Identifier: Apache-2.0
//
// Where the program takes memory away or protects it, addresses that were good may be bad.
#include <stdarg.h>
#include <sys/mman.h>

#include "src/client/addresses.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {

LIBSERVICES_EXPORT int ls_munmap(void* address, std::size_t size) {
  const long error = raw::syscall(SYS_munmap, address, size);
  client::forget_addresses();
  return int_result(error);
}
LIBSERVICES_ALIAS(munmap, ls_munmap);

LIBSERVICES_EXPORT int ls_mprotect(void* address, std::size_t size, int protection) {
  const long error = raw::syscall(SYS_mprotect, address, size, protection);
  client::forget_addresses();
  return int_result(error);
}
LIBSERVICES_ALIAS(mprotect, ls_mprotect);

LIBSERVICES_EXPORT void* ls_mremap(void* address, std::size_t size, std::size_t new_size, int flags,
                                   ...) {
  va_list arguments;
  va_start(arguments, flags);
  void* const target = va_arg(arguments, void*);
  va_end(arguments);
  const long moved = raw::syscall(SYS_mremap, address, size, new_size, flags, target);
  client::forget_addresses();
  return reinterpret_cast<void*>(result(moved));
}
LIBSERVICES_ALIAS(mremap, ls_mremap);

}  // namespace libservices::preload
