// SPDX-License-Identifier: Apache-2.0
//
// Files of the run directory that stand for objects of the mounts at the kernel: their names, and
// how a directory of them is emptied.
#ifndef LIBSERVICES_SRC_HOST_OBJECT_FILES_H_
#define LIBSERVICES_SRC_HOST_OBJECT_FILES_H_

#include <string>
#include <string_view>

#include "libservices/attributes.h"
#include "src/host/descriptor.h"

namespace libservices::host {

// Made of what identifies the object, so that renames and hard links change nothing and the next
// service finds it again.
std::string object_name(std::string_view mount, const Attributes& object);

// A directory below which descriptors of directories are given away: `..` leads no further up than
// to it, not even for a container's superuser who has no user namespace of its own. To be opened
// by, not to be read. Where this process may not make mounts, whom it serves is of its own user or
// cannot search the directory above, and it is opened as it is. Not ok, with errno: there is none.
Descriptor open_confined(const std::string& path);

// With all that is below. `directory` may be any descriptor of it.
void empty_directory(int directory);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_OBJECT_FILES_H_
