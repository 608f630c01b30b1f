// SPDX-License-Identifier: Apache-2.0
//
// Conformance of what every libservice can do: find, read and list.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_READ_H_
#define LIBSERVICES_TESTING_CONFORMANCE_READ_H_

#include <dirent.h>

#include "libservices/testing/instance.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("the root is a directory, and the same object each time", Stack,
                          conform_root) {
  Instance<Stack> fs;
  const auto first = must(fs.service.root(fs.context)).attributes;
  const auto second = must(fs.service.root(fs.context)).attributes;
  CHECK(first.is_directory());
  CHECK(first.device == second.device);
  CHECK(first.inode == second.inode);
}

TEST_CASE_TEMPLATE_DEFINE("lookup finds what is there, and with it the attributes getattr gives",
                          Stack, conform_lookup) {
  Instance<Stack> fs;
  const auto entry = must(fs.service.lookup(fs.context, fs.root(), "file"));
  CHECK(entry.attributes.is_regular());
  CHECK(entry.attributes.permissions() == 0644);
  CHECK(entry.attributes.size == kSeedText.size());
  CHECK(entry.attributes.links == 1);
  const Attributes asked = fs.attributes(entry.node);
  CHECK(asked.inode == entry.attributes.inode);
  CHECK(asked.device == entry.attributes.device);
  CHECK(asked.size == entry.attributes.size);
  CHECK(asked.mtime == entry.attributes.mtime);
  CHECK(fs.attributes(fs.find("directory")).is_directory());
}

TEST_CASE_TEMPLATE_DEFINE("lookup says why it finds nothing", Stack, conform_lookup_errors) {
  Instance<Stack> fs;
  CHECK(fs.lookup_error(fs.root(), "missing") == ENOENT);
  CHECK(fs.lookup_error(fs.find("empty"), "inner") == ENOENT);
  CHECK(fs.lookup_error(fs.find("file"), "inner") == ENOTDIR);
  CHECK(fs.lookup_error(fs.root(), std::string(255, 'n')) == ENOENT);
  CHECK(fs.lookup_error(fs.root(), std::string(256, 'n')) == ENAMETOOLONG);
}

TEST_CASE_TEMPLATE_DEFINE("objects differ in their numbers, and one object keeps its own", Stack,
                          conform_identity) {
  Instance<Stack> fs;
  const auto inner = fs.attributes(fs.find(fs.find("directory"), "inner"));
  const auto again = fs.attributes(fs.find(fs.find("directory"), "inner"));
  const auto file = fs.attributes(fs.find("file"));
  CHECK(inner.inode == again.inode);
  CHECK(inner.device == again.device);
  CHECK((inner.inode != file.inode || inner.device != file.device));
}

TEST_CASE_TEMPLATE_DEFINE("read gives the bytes of the place, and ends at the end", Stack,
                          conform_read) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"));
  CHECK(fs.read_from(file, 0, 4096) == kSeedText);
  CHECK(fs.read_from(file, 5, 6) == kSeedText.substr(5, 6));
  CHECK(fs.read_from(file, kSeedText.size() - 1, 10) == "\n");
  CHECK(fs.read_from(file, kSeedText.size(), 10).empty());
  CHECK(fs.read_from(file, 1U << 30U, 10).empty());
  CHECK(fs.read_from(file, 0, 0).empty());
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("open gives the attributes, and refuses what the type forbids", Stack,
                          conform_open) {
  Instance<Stack> fs;
  auto opened = must(fs.service.open(fs.context, fs.find("file"), {O_RDONLY}));
  CHECK(opened.attributes.size == kSeedText.size());
  fs.close(opened.file);
  const auto write = fs.service.open(fs.context, fs.find("directory"), {O_WRONLY});
  CHECK((error_of(write) == EISDIR || error_of(write) == EROFS));
  CHECK(error_of(fs.service.open(fs.context, fs.find("file"), {O_RDONLY | O_DIRECTORY})) ==
        ENOTDIR);
  auto directory = fs.open(fs.find("directory"));
  std::byte byte{};
  CHECK(error_of(fs.service.read(fs.context, directory, 0, std::span(&byte, 1))) == EISDIR);
  fs.close(directory);
}

TEST_CASE_TEMPLATE_DEFINE("a file that is not closed is closed by its destruction", Stack,
                          conform_forgotten_close) {
  Instance<Stack> fs;
  for (int i = 0; i < 3000; ++i) (void)fs.open(fs.find("file"));
  CHECK(fs.content(fs.find("file")) == kSeedText);
}

TEST_CASE_TEMPLATE_DEFINE("a node is a value: copies are the same object", Stack, conform_copies) {
  Instance<Stack> fs;
  auto node = fs.find("directory");
  const auto copy = node;
  node = fs.find("file");
  CHECK(fs.attributes(copy).is_directory());
  CHECK(fs.attributes(node).is_regular());
  CHECK(fs.content(fs.find(copy, "inner")) == kSeedText);
}

TEST_CASE_TEMPLATE_DEFINE("a listing has each entry once, with number and type, and no dots", Stack,
                          conform_list) {
  Instance<Stack> fs;
  std::multiset<std::string> expected{"directory", "empty", "file"};
  CHECK(fs.names(fs.root()) == expected);
  CHECK(fs.names(fs.find("empty")).empty());
  for (const auto& entry : fs.list(fs.root())) {
    CAPTURE(entry.name);
    const Attributes found = fs.attributes(fs.find(entry.name));
    CHECK(entry.inode == found.inode);
    if (entry.type != DT_UNKNOWN) CHECK(entry.type == (found.is_directory() ? DT_DIR : DT_REG));
    CHECK(entry.cookie >= 1);
    constexpr std::uint64_t kLast = INT64_MAX;
    CHECK((entry.cookie <= kLast - 3 || entry.cookie == kLast));
  }
}

TEST_CASE_TEMPLATE_DEFINE("a listing goes on behind any cookie", Stack, conform_cookies) {
  Instance<Stack> fs;
  const auto whole = fs.list(fs.root());
  const auto pieces = fs.list(fs.root(), 1);
  REQUIRE(whole.size() == pieces.size());
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(whole[i].name == pieces[i].name);
  auto file = fs.open(fs.root());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::vector<std::string> rest;
    must(fs.service.readdir(fs.context, file, whole[i].cookie, Listing::kNames,
                            [&](const DirEntry& entry) {
                              rest.emplace_back(entry.name);
                              return true;
                            }));
    CHECK(rest.size() == whole.size() - i - 1);
    if (!rest.empty()) CHECK(rest.front() == whole[i + 1].name);
  }
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("attributes in a listing are those of the object", Stack,
                          conform_list_attributes) {
  Instance<Stack> fs;
  auto file = fs.open(fs.root());
  std::vector<std::pair<std::string, Attributes>> listed;
  must(fs.service.readdir(fs.context, file, 0, Listing::kAttributes, [&](const DirEntry& entry) {
    if (entry.attributes != nullptr) listed.emplace_back(entry.name, *entry.attributes);
    return true;
  }));
  fs.close(file);
  for (const auto& entry : listed) {
    CAPTURE(entry.first);
    const Attributes found = fs.attributes(fs.find(entry.first));
    CHECK(entry.second.inode == found.inode);
    CHECK(entry.second.size == found.size);
    CHECK(entry.second.mode == found.mode);
  }
}

TEST_CASE_TEMPLATE_DEFINE("a file is no directory to list", Stack, conform_list_file) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"));
  CHECK(error_of(fs.service.readdir(fs.context, file, 0, Listing::kNames,
                                    [](const DirEntry&) { return true; })) == ENOTDIR);
  fs.close(file);
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_READ(Stack)                          \
  LIBSERVICES_CASE(conform_root, Stack, ReadableService);            \
  LIBSERVICES_CASE(conform_lookup, Stack, ReadableService);          \
  LIBSERVICES_CASE(conform_lookup_errors, Stack, ReadableService);   \
  LIBSERVICES_CASE(conform_identity, Stack, ReadableService);        \
  LIBSERVICES_CASE(conform_read, Stack, ReadableService);            \
  LIBSERVICES_CASE(conform_open, Stack, ReadableService);            \
  LIBSERVICES_CASE(conform_forgotten_close, Stack, ReadableService); \
  LIBSERVICES_CASE(conform_copies, Stack, ReadableService);          \
  LIBSERVICES_CASE(conform_list, Stack, ReadableService);            \
  LIBSERVICES_CASE(conform_cookies, Stack, ReadableService);         \
  LIBSERVICES_CASE(conform_list_attributes, Stack, ReadableService); \
  LIBSERVICES_CASE(conform_list_file, Stack, ReadableService);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_READ_H_
