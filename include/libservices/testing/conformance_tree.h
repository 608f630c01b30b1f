// SPDX-License-Identifier: Apache-2.0
//
// Conformance of making and removing names.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_TREE_H_
#define LIBSERVICES_TESTING_CONFORMANCE_TREE_H_

#include "libservices/testing/instance.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("mkdir makes an empty directory with the mode and owner asked for", Stack,
                          conform_mkdir) {
  Instance<Stack> fs;
  const NewNode fresh{.mode = 01750, .uid = 12, .gid = 34};
  const auto made = must(fs.service.mkdir(fs.context, fs.root(), "new", fresh));
  CHECK(made.attributes.is_directory());
  CHECK(made.attributes.permissions() == 01750);
  CHECK(made.attributes.uid == 12);
  CHECK(made.attributes.gid == 34);
  CHECK(fs.names(made.node).empty());
  CHECK(fs.attributes(fs.find("new")).inode == made.attributes.inode);
}

TEST_CASE_TEMPLATE_DEFINE("mkdir refuses a name that is taken, too long, or in no directory", Stack,
                          conform_mkdir_errors) {
  Instance<Stack> fs;
  const auto try_in = [&](const auto& directory, std::string_view name) {
    return error_of(fs.service.mkdir(fs.context, directory, name, kDirectory));
  };
  CHECK(try_in(fs.root(), "file") == EEXIST);
  CHECK(try_in(fs.root(), "directory") == EEXIST);
  CHECK(try_in(fs.find("file"), "new") == ENOTDIR);
  CHECK(try_in(fs.root(), std::string(256, 'n')) == ENAMETOOLONG);
}

TEST_CASE_TEMPLATE_DEFINE("unlink removes files and refuses directories", Stack,
                          conform_unlink) {
  Instance<Stack> fs;
  must(fs.service.unlink(fs.context, fs.root(), "file"));
  CHECK(fs.lookup_error(fs.root(), "file") == ENOENT);
  CHECK(fs.names(fs.root()) == std::multiset<std::string>{"directory", "empty"});
  CHECK(error_of(fs.service.unlink(fs.context, fs.root(), "file")) == ENOENT);
  CHECK(error_of(fs.service.unlink(fs.context, fs.root(), "empty")) == EISDIR);
  const auto inner = fs.find(fs.find("directory"), "inner");
  CHECK(error_of(fs.service.unlink(fs.context, inner, "name")) == ENOTDIR);
}

TEST_CASE_TEMPLATE_DEFINE("rmdir removes empty directories and nothing else", Stack,
                          conform_rmdir) {
  Instance<Stack> fs;
  CHECK(error_of(fs.service.rmdir(fs.context, fs.root(), "directory")) == ENOTEMPTY);
  CHECK(error_of(fs.service.rmdir(fs.context, fs.root(), "file")) == ENOTDIR);
  CHECK(error_of(fs.service.rmdir(fs.context, fs.root(), "missing")) == ENOENT);
  must(fs.service.rmdir(fs.context, fs.root(), "empty"));
  CHECK(fs.lookup_error(fs.root(), "empty") == ENOENT);
  must(fs.service.unlink(fs.context, fs.find("directory"), "inner"));
  must(fs.service.rmdir(fs.context, fs.root(), "directory"));
  CHECK(fs.names(fs.root()) == std::multiset<std::string>{"file"});
}

TEST_CASE_TEMPLATE_DEFINE("an open file works on when its last name is gone", Stack,
                          conform_unlinked_open) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  auto file = fs.open(node, O_RDWR);
  must(fs.service.unlink(fs.context, fs.root(), "file"));
  CHECK(fs.read_from(file, 0, 100) == kSeedText);
  must(fs.service.write(fs.context, file, 0, bytes_of("WHAT")));
  CHECK(fs.read_from(file, 0, 4) == "WHAT");
  CHECK(fs.attributes(node).links == 0);
  fs.make(fs.root(), "file", "another");
  CHECK(fs.read_from(file, 0, 4) == "WHAT");
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("a node stays the object it was when its name is given to another", Stack,
                          conform_node_stays) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  const auto before = fs.attributes(node);
  must(fs.service.unlink(fs.context, fs.root(), "file"));
  const auto other = fs.attributes(fs.make(fs.root(), "file", "x"));
  const auto after = fs.service.getattr(fs.context, node);
  if (after.ok()) {
    CHECK(after->inode == before.inode);
    CHECK(after->size == before.size);
    CHECK(other.inode != before.inode);
  } else {
    CHECK(error_of(after) == ESTALE);
  }
}

TEST_CASE_TEMPLATE_DEFINE("nothing can be made in a directory that was removed", Stack,
                          conform_removed_directory) {
  Instance<Stack> fs;
  const auto gone = fs.find("empty");
  must(fs.service.rmdir(fs.context, fs.root(), "empty"));
  CHECK(error_of(fs.service.create(fs.context, gone, "new", kPlain, {O_WRONLY})) == ENOENT);
  CHECK(error_of(fs.service.mkdir(fs.context, gone, "new", kDirectory)) == ENOENT);
  CHECK(fs.lookup_error(gone, "new") == ENOENT);
}

TEST_CASE_TEMPLATE_DEFINE("an entry that stays is listed once while others come and go", Stack,
                          conform_listing_under_change) {
  Instance<Stack> fs;
  constexpr int kEntries = 400;
  const auto directory = fs.find("empty");
  for (int i = 0; i < kEntries; ++i) fs.make(directory, "stays" + std::to_string(i));
  auto file = fs.open(directory);
  std::multiset<std::string> seen;
  std::uint64_t after = 0;
  for (int round = 0;; ++round) {
    std::string last;
    must(fs.service.readdir(fs.context, file, after, Listing::kNames, [&](const DirEntry& entry) {
      if (!last.empty()) return false;
      last = entry.name;
      after = entry.cookie;
      return true;
    }));
    if (last.empty()) break;
    REQUIRE(round < 10 * kEntries);
    if (last.starts_with("stays")) seen.insert(last);
    if (round < kEntries) fs.make(directory, "comes" + std::to_string(round));
    if (round % 3 == 0 && round < kEntries) {
      must(fs.service.unlink(fs.context, directory, "comes" + std::to_string(round)));
    }
  }
  fs.close(file);
  CHECK(seen.size() == kEntries);
  CHECK(std::set<std::string>(seen.begin(), seen.end()).size() == kEntries);
}

TEST_CASE_TEMPLATE_DEFINE("a listing with removal of what it shows empties the directory", Stack,
                          conform_remove_while_listing) {
  Instance<Stack> fs;
  const auto directory = fs.find("empty");
  for (int i = 0; i < 300; ++i) fs.make(directory, std::to_string(i));
  for (const auto& entry : fs.list(directory, 7)) {
    must(fs.service.unlink(fs.context, directory, entry.name));
  }
  CHECK(fs.names(directory).empty());
  must(fs.service.rmdir(fs.context, fs.root(), "empty"));
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_TREE(Stack)                               \
  LIBSERVICES_CASE(conform_mkdir, Stack, WritableService);                \
  LIBSERVICES_CASE(conform_mkdir_errors, Stack, WritableService);         \
  LIBSERVICES_CASE(conform_unlink, Stack, WritableService);               \
  LIBSERVICES_CASE(conform_rmdir, Stack, WritableService);                \
  LIBSERVICES_CASE(conform_unlinked_open, Stack, WritableService);        \
  LIBSERVICES_CASE(conform_node_stays, Stack, WritableService);           \
  LIBSERVICES_CASE(conform_removed_directory, Stack, WritableService);    \
  LIBSERVICES_CASE(conform_listing_under_change, Stack, WritableService); \
  LIBSERVICES_CASE(conform_remove_while_listing, Stack, WritableService);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_TREE_H_
