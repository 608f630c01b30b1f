// SPDX-License-Identifier: Apache-2.0
//
// The mapping of files of ours.
#include <sys/mman.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {

LIBSERVICES_EXPORT void* ls_mmap(void* address, std::size_t size, int protection, int flags,
                                 int descriptor, off_t offset) {
  const Call call(Symbol::mmap);
  return reinterpret_cast<void*>(
      result(calls::mmap(address, size, protection, flags, descriptor, offset)));
}

}  // namespace libservices::preload
