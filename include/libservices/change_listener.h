// SPDX-License-Identifier: Apache-2.0
//
// Who keeps answers of a filesystem outside of it (the kernel, behind a mount) and must hear when
// they are not true any more.
#ifndef LIBSERVICES_CHANGE_LISTENER_H_
#define LIBSERVICES_CHANGE_LISTENER_H_

#include <cstdint>
#include <string_view>

namespace libservices {

// Hears of changes of a filesystem, whoever makes them; not of access times.
//
// Objects have the numbers of their Reference: 1 is the root, and no number is used again.
// WARNING: called by the thread that makes the change, with locks held. Note it and return.
class ChangeListener {
 public:
  // `length` 0: only attributes. UINT64_MAX: to the end. Of a directory, that its entries changed.
  virtual void object_changed(std::uint64_t object, std::uint64_t offset, std::uint64_t length) = 0;
  virtual void name_changed(std::uint64_t directory, std::string_view name) = 0;

 protected:
  ~ChangeListener() = default;
};

}  // namespace libservices

#endif  // LIBSERVICES_CHANGE_LISTENER_H_
