// SPDX-License-Identifier: Apache-2.0
//
// A filesystem instance as the subject.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_FILESYSTEM_SUBJECT_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_FILESYSTEM_SUBJECT_H_

#include <array>

#include "libservices/any_filesystem.h"
#include "tests/differential/operation.h"

namespace libservices::testing {

// OWNS: nothing; `filesystem` is started, and outlives the subject.
class FilesystemSubject final : public Subject {
 public:
  explicit FilesystemSubject(AnyFilesystem& filesystem) : fs_(filesystem) {}
  ~FilesystemSubject() override;
  Outcome apply(const Operation&) override;

 private:
  Location location(const Operation&, std::string_view path) const;
  Outcome on_name(const Context&, const Operation&);
  Outcome on_attributes(const Context&, const Operation&);
  Outcome on_xattrs(const Context&, const Operation&, const Location&);
  Outcome on_file(const Context&, const Operation&);
  Outcome list(const Context&, const Location&);

  AnyFilesystem& fs_;
  std::array<OpenFilePtr, kSlots> slots_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_FILESYSTEM_SUBJECT_H_
