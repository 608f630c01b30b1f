// SPDX-License-Identifier: Apache-2.0
//
// Conformance of rename in its three modes.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_RENAME_H_
#define LIBSERVICES_TESTING_CONFORMANCE_RENAME_H_

#include "libservices/testing/instance.h"

namespace libservices::testing {

template <class Fs>
int rename_error(Fs& fs, const typename Fs::Node& from, std::string_view name,
                 const typename Fs::Node& to, std::string_view new_name,
                 RenameMode mode = RenameMode::kReplace) {
  return error_of(fs.service.rename(fs.context, from, name, to, new_name, mode));
}

// EXDEV is the answer of a service that would have to copy a directory to move it. It may come
// before any other error: POSIX does not say which wins.
template <class Fs>
bool moves_directories(Fs& fs) {
  const int error = rename_error(fs, fs.root(), "empty", fs.root(), "tried");
  if (error == EXDEV) return false;
  CHECK(error == 0);
  CHECK(rename_error(fs, fs.root(), "tried", fs.root(), "empty") == 0);
  return true;
}

TEST_CASE_TEMPLATE_DEFINE("rename moves a file, which stays the same object", Stack,
                          conform_rename) {
  Instance<Stack> fs;
  const auto inode = fs.attributes(fs.find("file")).inode;
  const auto directory = fs.find("directory");
  CHECK(rename_error(fs, fs.root(), "file", directory, "moved") == 0);
  CHECK(fs.lookup_error(fs.root(), "file") == ENOENT);
  CHECK(fs.attributes(fs.find(directory, "moved")).inode == inode);
  CHECK(fs.content(fs.find(directory, "moved")) == kSeedText);
  CHECK(fs.names(directory) == std::multiset<std::string>{"inner", "moved"});
}

TEST_CASE_TEMPLATE_DEFINE("rename replaces a file, and the replaced one works on", Stack,
                          conform_rename_replaces) {
  Instance<Stack> fs;
  auto old = fs.open(fs.find("file"));
  fs.make(fs.root(), "new", "new text");
  CHECK(rename_error(fs, fs.root(), "new", fs.root(), "file") == 0);
  CHECK(fs.content(fs.find("file")) == "new text");
  CHECK(fs.read_from(old, 0, 100) == kSeedText);
  CHECK(fs.names(fs.root()) == std::multiset<std::string>{"directory", "empty", "file"});
  fs.close(old);
}

TEST_CASE_TEMPLATE_DEFINE("rename onto itself changes nothing", Stack,
                          conform_rename_itself) {
  Instance<Stack> fs;
  CHECK(rename_error(fs, fs.root(), "file", fs.root(), "file") == 0);
  CHECK(fs.content(fs.find("file")) == kSeedText);
}

TEST_CASE_TEMPLATE_DEFINE("rename refuses what POSIX refuses", Stack,
                          conform_rename_errors) {
  Instance<Stack> fs;
  const auto root = fs.root();
  const auto directory = fs.find("directory");
  CHECK(rename_error(fs, root, "missing", root, "new") == ENOENT);
  CHECK(rename_error(fs, root, "file", root, "empty") == EISDIR);
  CHECK(rename_error(fs, root, "file", root, std::string(256, 'n')) == ENAMETOOLONG);
  const auto below = must(fs.service.mkdir(fs.context, directory, "below", kDirectory)).node;
  const auto refused = [](int error, int expected) { return error == expected || error == EXDEV; };
  CHECK(refused(rename_error(fs, root, "empty", root, "file"), ENOTDIR));
  CHECK(refused(rename_error(fs, root, "empty", root, "directory"), ENOTEMPTY));
  CHECK(refused(rename_error(fs, root, "directory", below, "loop"), EINVAL));
  CHECK(refused(rename_error(fs, root, "directory", directory, "loop"), EINVAL));
  CHECK(rename_error(fs, directory, "below", root, "directory") == ENOTEMPTY);
  CHECK(fs.names(directory) == std::multiset<std::string>{"below", "inner"});
}

TEST_CASE_TEMPLATE_DEFINE("rename moves a directory with all that is in it", Stack,
                          conform_rename_directory) {
  Instance<Stack> fs;
  if (!moves_directories(fs)) {
    must(fs.service.rmdir(fs.context, fs.root(), "empty"));
    must(fs.service.mkdir(fs.context, fs.root(), "empty", kDirectory));
    must(fs.service.unlink(fs.context, fs.find("directory"), "inner"));
    must(fs.service.rmdir(fs.context, fs.root(), "directory"));
    fs.make(must(fs.service.mkdir(fs.context, fs.root(), "directory", kDirectory)).node, "inner",
            kSeedText);
  }
  const auto empty = fs.find("empty");
  CHECK(rename_error(fs, fs.root(), "directory", empty, "moved") == 0);
  CHECK(fs.content(fs.find(fs.find(empty, "moved"), "inner")) == kSeedText);
  CHECK(fs.lookup_error(fs.root(), "directory") == ENOENT);
  const auto other = must(fs.service.mkdir(fs.context, fs.root(), "other", kDirectory)).node;
  CHECK(rename_error(fs, empty, "moved", fs.root(), "other") == 0);
  CHECK(fs.content(fs.find(fs.find("other"), "inner")) == kSeedText);
  CHECK(fs.lookup_error(other, "inner") == ENOENT);
}

TEST_CASE_TEMPLATE_DEFINE("rename without replacing refuses a name that is taken", Stack,
                          conform_rename_no_replace) {
  Instance<Stack> fs;
  fs.make(fs.root(), "new", "new text");
  CHECK(rename_error(fs, fs.root(), "new", fs.root(), "file", RenameMode::kNoReplace) == EEXIST);
  CHECK(fs.content(fs.find("file")) == kSeedText);
  const int moved =
      rename_error(fs, fs.root(), "new", fs.root(), "free", RenameMode::kNoReplace);
  if (refuses<Stack>(RenameMode::kNoReplace)) {
    CHECK(moved == EINVAL);
    CHECK(fs.lookup_error(fs.root(), "free") == ENOENT);
    CHECK(fs.content(fs.find("new")) == "new text");
    return;
  }
  CHECK(moved == 0);
  CHECK(fs.content(fs.find("free")) == "new text");
}

TEST_CASE_TEMPLATE_DEFINE("an exchange gives each object the other's name", Stack,
                          conform_exchange) {
  Instance<Stack> fs;
  const auto root = fs.root();
  const auto exchange = RenameMode::kExchange;
  const auto directory = fs.find("directory");
  fs.make(directory, "other", "other text");
  if (refuses<Stack>(exchange)) {
    CHECK(rename_error(fs, root, "file", directory, "other", exchange) == EINVAL);
    CHECK(fs.content(fs.find("file")) == kSeedText);
    CHECK(fs.content(fs.find(directory, "other")) == "other text");
    return;
  }
  CHECK(rename_error(fs, root, "file", root, "missing", exchange) == ENOENT);
  CHECK(rename_error(fs, root, "file", directory, "other", exchange) == 0);
  CHECK(fs.content(fs.find("file")) == "other text");
  CHECK(fs.content(fs.find(directory, "other")) == kSeedText);
  const int loop = rename_error(fs, root, "directory", directory, "inner", exchange);
  CHECK((loop == EINVAL || loop == EXDEV));
  if (!moves_directories(fs)) return;
  CHECK(rename_error(fs, root, "file", root, "empty", exchange) == 0);
  CHECK(fs.attributes(fs.find("file")).is_directory());
  CHECK(fs.content(fs.find("empty")) == "other text");
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_RENAME(Stack)                          \
  LIBSERVICES_CASE(conform_rename, Stack, WritableService);            \
  LIBSERVICES_CASE(conform_rename_replaces, Stack, WritableService);   \
  LIBSERVICES_CASE(conform_rename_itself, Stack, WritableService);     \
  LIBSERVICES_CASE(conform_rename_errors, Stack, WritableService);     \
  LIBSERVICES_CASE(conform_rename_directory, Stack, WritableService);  \
  LIBSERVICES_CASE(conform_rename_no_replace, Stack, WritableService); \
  LIBSERVICES_CASE(conform_exchange, Stack, WritableService);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_RENAME_H_
