// SPDX-License-Identifier: Apache-2.0
//
// A name as libcephfs takes it, and paths from the root of the CephFS.
#ifndef LIBSERVICES_SERVICES_CEPH_NAMES_H_
#define LIBSERVICES_SERVICES_CEPH_NAMES_H_

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
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

// Without doubled slashes and without one at the end; "/" for the root.
inline std::string clean(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (c != '/' || text.empty() || text.back() != '/') text.push_back(c);
  }
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

// Whether it is the directory or below it. REQUIRES: both are clean.
inline bool is_in(std::string_view path, std::string_view directory) {
  return path == directory || directory == "/" ||
         (path.starts_with(directory) && path[directory.size()] == '/');
}

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_NAMES_H_
