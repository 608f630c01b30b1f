// SPDX-License-Identifier: Apache-2.0
//
// Conformance of creating, writing, truncating and appending.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_WRITE_H_
#define LIBSERVICES_TESTING_CONFORMANCE_WRITE_H_

#include "libservices/testing/instance.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("create makes an empty file with the mode and owner that were asked for",
                          Stack, conform_create) {
  Instance<Stack> fs;
  const NewNode fresh{.mode = 0600, .uid = 1234, .gid = 5678};
  auto made = must(fs.service.create(fs.context, fs.root(), "new", fresh, {O_RDWR}));
  CHECK(made.attributes.is_regular());
  CHECK(made.attributes.permissions() == 0600);
  CHECK(made.attributes.uid == 1234);
  CHECK(made.attributes.gid == 5678);
  CHECK(made.attributes.size == 0);
  CHECK(made.attributes.links == 1);
  CHECK(fs.attributes(fs.find("new")).inode == made.attributes.inode);
  CHECK(must(fs.service.write(fs.context, made.file, 0, bytes_of("text"))) == 4);
  CHECK(fs.read_from(made.file, 0, 10) == "text");
  fs.close(made.file);
  CHECK(fs.content(made.node) == "text");
}

TEST_CASE_TEMPLATE_DEFINE("create refuses a name that is taken, too long, or in no directory",
                          Stack, conform_create_errors) {
  Instance<Stack> fs;
  const auto try_in = [&](const auto& directory, std::string_view name) {
    return error_of(fs.service.create(fs.context, directory, name, kPlain, {O_WRONLY}));
  };
  CHECK(try_in(fs.root(), "file") == EEXIST);
  CHECK(try_in(fs.root(), "directory") == EEXIST);
  CHECK(try_in(fs.find("file"), "new") == ENOTDIR);
  CHECK(try_in(fs.root(), std::string(256, 'n')) == ENAMETOOLONG);
  CHECK(try_in(fs.root(), std::string(255, 'n')) == 0);
}

TEST_CASE_TEMPLATE_DEFINE("a write changes its bytes and no others", Stack, conform_write) {
  Instance<Stack> fs;
  const auto node = fs.make(fs.root(), "new", std::string(10000, 'a'));
  auto file = fs.open(node, O_RDWR);
  CHECK(must(fs.service.write(fs.context, file, 4090, bytes_of("0123456789"))) == 10);
  std::string expected(10000, 'a');
  expected.replace(4090, 10, "0123456789");
  CHECK(fs.read_from(file, 0, 20000) == expected);
  CHECK(must(fs.service.write(fs.context, file, 9995, bytes_of("0123456789"))) == 10);
  CHECK(fs.attributes(node).size == 10005);
  must(fs.service.fsync(fs.context, file, SyncScope::kData));
  must(fs.service.fsync(fs.context, file, SyncScope::kAll));
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("what was never written reads as zeros", Stack, conform_holes) {
  Instance<Stack> fs;
  const auto node = fs.make(fs.root(), "new", "begin");
  auto file = fs.open(node, O_RDWR);
  must(fs.service.write(fs.context, file, 100000, bytes_of("end")));
  CHECK(fs.attributes(node).size == 100003);
  CHECK(fs.read_from(file, 3, 10) == std::string("in") + std::string(8, '\0'));
  CHECK(fs.read_from(file, 99998, 10) == std::string(2, '\0') + "end");
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("a file that shrank and grew shows zeros where it was cut", Stack,
                          conform_truncate) {
  Instance<Stack> fs;
  const auto node = fs.make(fs.root(), "new", std::string(9000, 'x'));
  AttributeChanges changes;
  changes.which = AttributeChanges::kSize;
  changes.size = 10;
  CHECK(must(fs.service.setattr(fs.context, node, changes)).size == 10);
  changes.size = 20;
  CHECK(must(fs.service.setattr(fs.context, node, changes)).size == 20);
  CHECK(fs.content(node) == std::string(10, 'x') + std::string(10, '\0'));
  CHECK(error_of(fs.service.setattr(fs.context, fs.find("directory"), changes)) == EISDIR);
}

TEST_CASE_TEMPLATE_DEFINE("open with O_TRUNC empties the file", Stack, conform_open_truncates) {
  Instance<Stack> fs;
  auto opened = must(fs.service.open(fs.context, fs.find("file"), {O_WRONLY | O_TRUNC}));
  CHECK(opened.attributes.size == 0);
  fs.close(opened.file);
  CHECK(fs.content(fs.find("file")).empty());
}

TEST_CASE_TEMPLATE_DEFINE("two open files of one object see each other's writes", Stack,
                          conform_two_files) {
  Instance<Stack> fs;
  auto writer = fs.open(fs.find("file"), O_WRONLY);
  auto reader = fs.open(fs.find("file"), O_RDONLY);
  must(fs.service.write(fs.context, writer, 0, bytes_of("WHAT")));
  CHECK(fs.read_from(reader, 0, 4) == "WHAT");
  fs.close(writer);
  fs.close(reader);
}

TEST_CASE_TEMPLATE_DEFINE("a file opened for one direction refuses the other", Stack,
                          conform_access_mode) {
  Instance<Stack> fs;
  std::byte byte{};
  auto reader = fs.open(fs.find("file"), O_RDONLY);
  CHECK(error_of(fs.service.write(fs.context, reader, 0, bytes_of("x"))) == EBADF);
  fs.close(reader);
  auto writer = fs.open(fs.find("file"), O_WRONLY);
  CHECK(error_of(fs.service.read(fs.context, writer, 0, std::span(&byte, 1))) == EBADF);
  fs.close(writer);
}

TEST_CASE_TEMPLATE_DEFINE("a large file comes back as it was written", Stack, conform_large) {
  Instance<Stack> fs;
  std::string text(3 << 20, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 + (i >> 12));
  const auto node = fs.make(fs.root(), "large", text);
  CHECK(fs.attributes(node).size == text.size());
  CHECK((fs.content(node) == text));
}

TEST_CASE_TEMPLATE_DEFINE("append writes behind the end, and says where the end is", Stack,
                          conform_append) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"), O_WRONLY | O_APPEND);
  std::size_t written = 0;
  const auto end = must(fs.service.append(fs.context, file, bytes_of("more"), written));
  CHECK(written == 4);
  CHECK(end == kSeedText.size() + 4);
  fs.close(file);
  CHECK(fs.content(fs.find("file")) == std::string(kSeedText) + "more");
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_WRITE(Stack)                        \
  LIBSERVICES_CASE(conform_create, Stack, WritableService);         \
  LIBSERVICES_CASE(conform_create_errors, Stack, WritableService);  \
  LIBSERVICES_CASE(conform_write, Stack, WritableService);          \
  LIBSERVICES_CASE(conform_holes, Stack, WritableService);          \
  LIBSERVICES_CASE(conform_truncate, Stack, WritableService);       \
  LIBSERVICES_CASE(conform_open_truncates, Stack, WritableService); \
  LIBSERVICES_CASE(conform_two_files, Stack, WritableService);      \
  LIBSERVICES_CASE(conform_access_mode, Stack, WritableService);    \
  LIBSERVICES_CASE(conform_large, Stack, WritableService);          \
  LIBSERVICES_CASE(conform_append, Stack, OffersAppend);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_WRITE_H_
