// SPDX-License-Identifier: Apache-2.0
//
// Conformance of the flags of objects. Where the storage beneath has none, that is all that is
// asked for.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_FLAGS_H_
#define LIBSERVICES_TESTING_CONFORMANCE_FLAGS_H_

#include <string>

#include "libservices/testing/instance.h"

namespace libservices::internal {

template <class S>
concept OffersFlagsOfWritable = OffersFlagChanges<S> && WritableService<S>;

}  // namespace libservices::internal

namespace libservices::testing {

inline constexpr auto kPlainFlags = InodeFlags::Form::kFlags;
inline constexpr auto kExtendedFlags = InodeFlags::Form::kExtended;
inline constexpr std::uint32_t kNoDumpFlag = 0x40;          // FS_NODUMP_FL
inline constexpr std::uint32_t kExtendedNoDumpFlag = 0x80;  // FS_XFLAG_NODUMP

// 0, or the errno with which the storage says that it has no such flags.
template <class Fs>
int without_flags(Fs& fs) {
  const int error = error_of(fs.service.getflags(fs.context, fs.find("file"), kPlainFlags));
  if (error != 0) CHECK(error == ENOTTY);
  return error;
}

// Sets and takes away flags of the plain form. 0, or an errno.
template <class Fs>
int change_flags(Fs& fs, const typename Fs::Node& node, std::uint32_t set, std::uint32_t clear) {
  auto flags = must(fs.service.getflags(fs.context, node, kPlainFlags));
  flags.flags = (flags.flags | set) & ~clear;
  return error_of(fs.service.setflags(fs.context, node, flags));
}

TEST_CASE_TEMPLATE_DEFINE("flags are what was set, in both forms, of files and directories", Stack,
                          conform_flags) {
  Instance<Stack> fs;
  if (without_flags(fs) != 0) return;
  for (const char* name : {"file", "directory"}) {
    const auto node = fs.find(name);
    const auto before = must(fs.service.getflags(fs.context, node, kPlainFlags));
    CHECK((before.flags & kNoDumpFlag) == 0);
    REQUIRE(change_flags(fs, node, kNoDumpFlag, 0) == 0);
    CHECK(must(fs.service.getflags(fs.context, node, kPlainFlags)).flags ==
          (before.flags | kNoDumpFlag));
    CHECK(must(fs.service.getflags(fs.context, fs.find(name), kPlainFlags)).flags ==
          (before.flags | kNoDumpFlag));
    auto extended = must(fs.service.getflags(fs.context, node, kExtendedFlags));
    CHECK(extended.form == kExtendedFlags);
    CHECK((extended.flags & kExtendedNoDumpFlag) != 0);
    extended.flags &= ~kExtendedNoDumpFlag;
    must(fs.service.setflags(fs.context, node, extended));
    CHECK(must(fs.service.getflags(fs.context, node, kPlainFlags)).flags == before.flags);
  }
}

TEST_CASE_TEMPLATE_DEFINE("a flag that there is not is refused, and nothing else changes", Stack,
                          conform_unknown_flags) {
  Instance<Stack> fs;
  if (without_flags(fs) != 0) return;
  const auto node = fs.find("file");
  const auto before = must(fs.service.getflags(fs.context, node, kPlainFlags));
  CHECK(change_flags(fs, node, kNoDumpFlag | 1U << 27U, 0) == EOPNOTSUPP);
  CHECK(must(fs.service.getflags(fs.context, node, kPlainFlags)).flags == before.flags);
}

TEST_CASE_TEMPLATE_DEFINE("what is immutable can be read, and not changed until it no longer is",
                          Stack, conform_immutable) {
  Instance<Stack> fs;
  if (without_flags(fs) != 0) return;
  const auto node = fs.find("file");
  if (const int error = change_flags(fs, node, InodeFlags::kImmutable, 0); error != 0) {
    CHECK(error == EPERM);  // this process may not
    return;
  }
  AttributeChanges mode;
  mode.which = AttributeChanges::kMode;
  mode.mode = 0600;
  CHECK(fs.content(node) == kSeedText);
  CHECK(error_of(fs.service.open(fs.context, node, {O_WRONLY})) == EPERM);
  CHECK(error_of(fs.service.open(fs.context, node, {O_WRONLY | O_APPEND})) == EPERM);
  CHECK(error_of(fs.service.setattr(fs.context, node, mode)) == EPERM);
  CHECK(error_of(fs.service.unlink(fs.context, fs.root(), "file")) == EPERM);
  CHECK(error_of(fs.service.rename(fs.context, fs.root(), "file", fs.root(), "other",
                                   RenameMode::kReplace)) == EPERM);
  fs.make(fs.root(), "new", "new");
  CHECK(error_of(fs.service.rename(fs.context, fs.root(), "new", fs.root(), "file",
                                   RenameMode::kReplace)) == EPERM);
  CHECK(fs.content(fs.find("file")) == kSeedText);
  REQUIRE(change_flags(fs, node, 0, InodeFlags::kImmutable) == 0);
  must(fs.service.setattr(fs.context, node, mode));
  must(fs.service.rename(fs.context, fs.root(), "new", fs.root(), "file", RenameMode::kReplace));
  CHECK(fs.content(fs.find("file")) == "new");
}

TEST_CASE_TEMPLATE_DEFINE("a file that can be appended to alone is, and nothing else", Stack,
                          conform_append_only) {
  Instance<Stack> fs;
  if (without_flags(fs) != 0) return;
  const auto node = fs.find("file");
  if (const int error = change_flags(fs, node, InodeFlags::kAppendOnly, 0); error != 0) {
    CHECK(error == EPERM);  // this process may not
    return;
  }
  CHECK(error_of(fs.service.open(fs.context, node, {O_WRONLY})) == EPERM);
  CHECK(error_of(fs.service.unlink(fs.context, fs.root(), "file")) == EPERM);
  if constexpr (OffersAppend<typename Stack::Service>) {
    auto file = fs.open(node, O_WRONLY | O_APPEND);
    std::size_t written = 0;
    CHECK(must(fs.service.append(fs.context, file, bytes_of("more"), written)) ==
          kSeedText.size() + 4);
    CHECK(error_of(fs.service.write(fs.context, file, 0, bytes_of("x"))) == EPERM);
    fs.close(file);
    CHECK(fs.content(node) == std::string(kSeedText) + "more");
  }
  REQUIRE(change_flags(fs, node, 0, InodeFlags::kAppendOnly) == 0);
  must(fs.service.unlink(fs.context, fs.root(), "file"));
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_FLAGS(Stack)                                        \
  LIBSERVICES_CASE(conform_flags, Stack, internal::OffersFlagsOfWritable);          \
  LIBSERVICES_CASE(conform_unknown_flags, Stack, internal::OffersFlagsOfWritable);  \
  LIBSERVICES_CASE(conform_immutable, Stack, internal::OffersFlagsOfWritable);      \
  LIBSERVICES_CASE(conform_append_only, Stack, internal::OffersFlagsOfWritable);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_FLAGS_H_
