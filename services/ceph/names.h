// SPDX-License-Identifier: Apache-2.0
//
// A name as libcephfs takes it.
#ifndef LIBSERVICES_SERVICES_CEPH_NAMES_H_
#define LIBSERVICES_SERVICES_CEPH_NAMES_H_

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "libservices/result.h"

namespace libservices::ceph_internal {

// One component of a path with its NUL. ERRORS: EINVAL for "", ".", ".." and what holds '/' or NUL;
// ENAMETOOLONG beyond 255 bytes.
class Name {
 public:
  static Result<Name> of(std::string_view text) {
    if (text.size() > 255) return Errno{ENAMETOOLONG};
    if (text.empty() || text == "." || text == ".." ||
        text.find_first_of(std::string_view("/\0", 2)) != std::string_view::npos) {
      return Errno{EINVAL};
    }
    Name name;
    std::memcpy(name.text_.data(), text.data(), text.size());
    name.text_[text.size()] = '\0';
    return name;
  }
  const char* c_str() const { return text_.data(); }

 private:
  Name() = default;
  std::array<char, 256> text_;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_NAMES_H_
