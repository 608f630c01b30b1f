// SPDX-License-Identifier: Apache-2.0
//
// Files of the run directory that stand for objects of the mounts at the kernel: their names, and
// how a directory of them is emptied.
#ifndef LIBSERVICES_SRC_HOST_OBJECT_FILES_H_
#define LIBSERVICES_SRC_HOST_OBJECT_FILES_H_

#include <string>
#include <string_view>

#include "libservices/attributes.h"

namespace libservices::host {

// Made of what identifies the object, so that renames and hard links change nothing and the next
// service finds it again.
std::string object_name(std::string_view mount, const Attributes& object);

// With all that is below. `directory` may be any descriptor of it.
void empty_directory(int directory);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_OBJECT_FILES_H_
