// SPDX-License-Identifier: Apache-2.0
//
// Conformance of the extended attributes of namespace user.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_XATTRS_H_
#define LIBSERVICES_TESTING_CONFORMANCE_XATTRS_H_

#include "libservices/testing/instance.h"

namespace libservices::internal {

// A read-only service may have extended attributes, but not those that these cases set.
template <class S>
concept OffersXattrChanges = OffersXattrs<S> && WritableService<S>;

}  // namespace libservices::internal

namespace libservices::testing {

template <class Fs>
int set_error(Fs& fs, const typename Fs::Node& node, std::string_view name, std::string_view value,
              XattrMode mode = XattrMode::kCreateOrReplace) {
  return error_of(fs.service.setxattr(fs.context, node, name, bytes_of(value), mode));
}

template <class Fs>
std::string xattr(Fs& fs, const typename Fs::Node& node, std::string_view name) {
  std::string value(65536, '\0');
  value.resize(must(
      fs.service.getxattr(fs.context, node, name, std::as_writable_bytes(std::span(value)))));
  return value;
}

TEST_CASE_TEMPLATE_DEFINE("an extended attribute is what was set, byte for byte", Stack,
                          conform_xattr) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  const std::string value("a\0b\xff", 4);
  CHECK(set_error(fs, node, "user.one", value) == 0);
  CHECK(xattr(fs, node, "user.one") == value);
  CHECK(set_error(fs, node, "user.one", "other") == 0);
  CHECK(xattr(fs, fs.find("file"), "user.one") == "other");
  CHECK(set_error(fs, node, "user.empty", "") == 0);
  CHECK(xattr(fs, node, "user.empty").empty());
  CHECK(set_error(fs, fs.find("directory"), "user.one", "d") == 0);
  CHECK(xattr(fs, fs.find("directory"), "user.one") == "d");
}

TEST_CASE_TEMPLATE_DEFINE("create and replace refuse as their names say", Stack,
                          conform_xattr_modes) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  CHECK(set_error(fs, node, "user.one", "1", XattrMode::kReplace) == ENODATA);
  CHECK(set_error(fs, node, "user.one", "1", XattrMode::kCreate) == 0);
  CHECK(set_error(fs, node, "user.one", "2", XattrMode::kCreate) == EEXIST);
  CHECK(set_error(fs, node, "user.one", "3", XattrMode::kReplace) == 0);
  CHECK(xattr(fs, node, "user.one") == "3");
}

TEST_CASE_TEMPLATE_DEFINE("sizes can be asked for, and a small buffer is refused", Stack,
                          conform_xattr_sizes) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  CHECK(set_error(fs, node, "user.one", "12345") == 0);
  CHECK(must(fs.service.getxattr(fs.context, node, "user.one", {})) == 5);
  std::byte small[4];
  CHECK(error_of(fs.service.getxattr(fs.context, node, "user.one", small)) == ERANGE);
  CHECK(must(fs.service.listxattr(fs.context, node, {})) >= 9);
  char names[8];
  CHECK(error_of(fs.service.listxattr(fs.context, node, names)) == ERANGE);
}

TEST_CASE_TEMPLATE_DEFINE("the list has the names that were set, each with its NUL", Stack,
                          conform_xattr_list) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  CHECK(set_error(fs, node, "user.one", "1") == 0);
  CHECK(set_error(fs, node, "user.two", "2") == 0);
  must(fs.service.removexattr(fs.context, node, "user.one"));
  CHECK(error_of(fs.service.removexattr(fs.context, node, "user.one")) == ENODATA);
  CHECK(error_of(fs.service.getxattr(fs.context, node, "user.one", {})) == ENODATA);
  std::string list(65536, '\0');
  list.resize(must(fs.service.listxattr(fs.context, node, list)));
  CHECK(list.find(std::string("user.two\0", 9)) != std::string::npos);
  CHECK(list.find("user.one") == std::string::npos);
}

TEST_CASE_TEMPLATE_DEFINE("extended attributes go with the object when it is renamed", Stack,
                          conform_xattr_rename) {
  Instance<Stack> fs;
  CHECK(set_error(fs, fs.find("file"), "user.one", "1") == 0);
  must(fs.service.rename(fs.context, fs.root(), "file", fs.find("empty"), "moved",
                         RenameMode::kReplace));
  CHECK(xattr(fs, fs.find(fs.find("empty"), "moved"), "user.one") == "1");
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_XATTRS(Stack) \
  LIBSERVICES_CASE(conform_xattr, Stack, internal::OffersXattrChanges); \
  LIBSERVICES_CASE(conform_xattr_modes, Stack, internal::OffersXattrChanges); \
  LIBSERVICES_CASE(conform_xattr_sizes, Stack, internal::OffersXattrChanges); \
  LIBSERVICES_CASE(conform_xattr_list, Stack, internal::OffersXattrChanges); \
  LIBSERVICES_CASE(conform_xattr_rename, Stack, internal::OffersXattrChanges);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_XATTRS_H_
