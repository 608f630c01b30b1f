// SPDX-License-Identifier: Apache-2.0
//
// A path that is put together without libc, with room for the longest that the kernel takes.
//
// Freestanding: the command's first part is made of it.
#ifndef LIBSERVICES_SRC_HOST_PATH_TEXT_H_
#define LIBSERVICES_SRC_HOST_PATH_TEXT_H_

#include <limits.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace libservices::host {

class PathText {
 public:
  PathText() { *text_ = '\0'; }
  PathText(const PathText& other) { *this = other; }
  PathText& operator=(const PathText& other) {
    if (this == &other) return *this;
    clear();
    fits_ = other.fits_;
    return *this += other.view();
  }

  PathText& operator+=(std::string_view more) {
    fits_ = fits_ && more.size() < sizeof text_ - size_;
    if (!fits_) return *this;
    __builtin_memcpy(text_ + size_, more.data(), more.size());
    size_ += more.size();
    text_[size_] = '\0';
    return *this;
  }
  PathText& operator+=(std::uint32_t number) {
    char digits[10];
    std::size_t first = sizeof digits;
    do {
      digits[--first] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return *this += std::string_view(digits + first, sizeof digits - first);
  }
  void clear() { cut(0); }
  void cut(std::size_t size) {
    size_ = size;
    text_[size] = '\0';
    fits_ = true;
  }

  // False once something did not fit: it is left out, and what came after it.
  bool fits() const { return fits_; }
  const char* text() const { return text_; }
  std::string_view view() const { return {text_, size_}; }

 private:
  std::size_t size_ = 0;
  bool fits_ = true;
  char text_[PATH_MAX];
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_PATH_TEXT_H_
