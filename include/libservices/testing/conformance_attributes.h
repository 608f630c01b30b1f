// SPDX-License-Identifier: Apache-2.0
//
// Conformance of setattr, and of the times and link counts that other operations move.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_ATTRIBUTES_H_
#define LIBSERVICES_TESTING_CONFORMANCE_ATTRIBUTES_H_

#include "libservices/testing/instance.h"

namespace libservices::testing {

inline Timestamp long_ago() { return {1000000000, 123456789, 0}; }

// Sets the times of `node` to long_ago(), so that what moves them later shows.
template <class Fs>
void set_back(Fs& fs, const typename Fs::Node& node) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kAtime | AttributeChanges::kMtime;
  changes.atime = changes.mtime = long_ago();
  must(fs.service.setattr(fs.context, node, changes));
}

TEST_CASE_TEMPLATE_DEFINE("setattr changes what is named, and nothing else", Stack,
                          conform_setattr) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  const Attributes before = fs.attributes(node);
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = 0751;
  changes.uid = 99;
  const Attributes after = must(fs.service.setattr(fs.context, node, changes));
  CHECK(after.permissions() == 0751);
  CHECK(after.is_regular());
  CHECK(after.uid == before.uid);
  CHECK(after.size == before.size);
  CHECK(after.mtime == before.mtime);
  CHECK(after.ctime >= before.ctime);
  CHECK(fs.attributes(fs.find("file")).permissions() == 0751);
}

TEST_CASE_TEMPLATE_DEFINE("setattr changes owner and group", Stack,
                          conform_owner) {
  Instance<Stack> fs;
  AttributeChanges changes;
  changes.which = AttributeChanges::kUid | AttributeChanges::kGid;
  changes.uid = 1001;
  changes.gid = 1002;
  const Attributes after = must(fs.service.setattr(fs.context, fs.find("directory"), changes));
  CHECK(after.uid == 1001);
  CHECK(after.gid == 1002);
  CHECK(after.permissions() == 0755);
}

TEST_CASE_TEMPLATE_DEFINE("times are kept to the nanosecond, and now means now", Stack,
                          conform_times) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  set_back(fs, node);
  CHECK(fs.attributes(node).mtime == long_ago());
  CHECK(fs.attributes(node).atime == long_ago());
  CHECK(fs.attributes(node).ctime > long_ago());
  AttributeChanges changes;
  changes.which = AttributeChanges::kMtimeNow;
  const Attributes after = must(fs.service.setattr(fs.context, node, changes));
  CHECK(after.mtime > long_ago());
  CHECK(after.atime == long_ago());
}

TEST_CASE_TEMPLATE_DEFINE("a write moves mtime and ctime of the file", Stack,
                          conform_write_times) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  set_back(fs, node);
  auto file = fs.open(node, O_WRONLY);
  must(fs.service.write(fs.context, file, 0, bytes_of("x")));
  fs.close(file);
  CHECK(fs.attributes(node).mtime > long_ago());
}

TEST_CASE_TEMPLATE_DEFINE("so does another size, of a new file too", Stack, conform_size_times) {
  Instance<Stack> fs;
  for (const std::uint64_t size : {std::uint64_t{100000}, std::uint64_t{7}}) {
    const auto node = fs.find("file");
    set_back(fs, node);
    AttributeChanges changes;
    changes.which = AttributeChanges::kSize;
    changes.size = size;
    CHECK(must(fs.service.setattr(fs.context, node, changes)).mtime > long_ago());
    CHECK(fs.attributes(node).mtime > long_ago());
    const auto made = fs.make(fs.root(), "new" + std::to_string(size));
    CHECK(must(fs.service.setattr(fs.context, made, changes)).mtime > long_ago());
  }
}

TEST_CASE_TEMPLATE_DEFINE("a change of entries moves mtime of the directory", Stack,
                          conform_entry_times) {
  Instance<Stack> fs;
  const auto directory = fs.find("directory");
  const auto changed = [&] {
    const bool moved = fs.attributes(directory).mtime > long_ago();
    set_back(fs, directory);
    return moved;
  };
  set_back(fs, directory);
  CHECK_FALSE(changed());
  fs.make(directory, "new");
  CHECK(changed());
  must(fs.service.mkdir(fs.context, directory, "sub", kDirectory));
  CHECK(changed());
  must(fs.service.rename(fs.context, directory, "new", directory, "renamed",
                         RenameMode::kReplace));
  CHECK(changed());
  const auto other = must(fs.service.mkdir(fs.context, fs.root(), "other", kDirectory)).node;
  must(fs.service.rename(fs.context, directory, "renamed", other, "moved", RenameMode::kReplace));
  CHECK(changed());
  // From a third one: two directories that are locked in both orders would look like a deadlock to
  // ThreadSanitizer, which does not know of the lock before them.
  const auto third = must(fs.service.mkdir(fs.context, fs.root(), "third", kDirectory)).node;
  fs.make(third, "back");
  must(fs.service.rename(fs.context, third, "back", directory, "renamed", RenameMode::kReplace));
  CHECK(changed());
  must(fs.service.unlink(fs.context, directory, "renamed"));
  CHECK(changed());
  must(fs.service.rmdir(fs.context, directory, "sub"));
  CHECK(changed());
}

TEST_CASE_TEMPLATE_DEFINE("attributes of an object without a name can be changed", Stack,
                          conform_setattr_unlinked) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  auto file = fs.open(node, O_RDWR);
  must(fs.service.unlink(fs.context, fs.root(), "file"));
  AttributeChanges changes;
  changes.which = AttributeChanges::kSize;
  changes.size = 4;
  CHECK(must(fs.service.setattr(fs.context, node, changes)).size == 4);
  CHECK(fs.read_from(file, 0, 100) == kSeedText.substr(0, 4));
  fs.close(file);
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_ATTRIBUTES(Stack)                \
  LIBSERVICES_CASE(conform_setattr, Stack, WritableService);     \
  LIBSERVICES_CASE(conform_owner, Stack, WritableService);       \
  LIBSERVICES_CASE(conform_times, Stack, WritableService);       \
  LIBSERVICES_CASE(conform_write_times, Stack, WritableService); \
  LIBSERVICES_CASE(conform_size_times, Stack, WritableService);  \
  LIBSERVICES_CASE(conform_entry_times, Stack, WritableService); \
  LIBSERVICES_CASE(conform_setattr_unlinked, Stack, WritableService);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_ATTRIBUTES_H_
