// SPDX-License-Identifier: Apache-2.0
//
// Requests taken apart: right ones of every kind, and what is none. LIBSERVICES_SEED and
// LIBSERVICES_MESSAGES choose the first seed and the number of random ones.
#include "src/fuse/message.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/differential/seeds.h"

namespace libservices::fuse {
namespace {

using Bytes = std::vector<std::byte>;

void append(Bytes& bytes, const void* data, std::size_t size) {
  const auto* const from = static_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), from, from + size);
}
void append(Bytes& bytes, const std::string& text) { append(bytes, text.c_str(), text.size() + 1); }

Bytes begin(std::uint32_t opcode) {
  fuse_in_header header{};
  header.opcode = opcode;
  header.unique = 7;
  header.nodeid = 1;
  header.uid = 1000;
  Bytes bytes;
  append(bytes, &header, sizeof header);
  return bytes;
}
fuse_in_header& header_of(Bytes& bytes) { return *reinterpret_cast<fuse_in_header*>(bytes.data()); }
Result<void> end(Bytes& bytes, Message& message) {
  header_of(bytes).len = static_cast<std::uint32_t>(bytes.size());
  return decode(bytes, {}, message);
}
int error_of(const Result<void>& result) { return result.ok() ? 0 : result.error().value; }

TEST_CASE("a request is its fixed part, its names and its payload") {
  Message message;
  Bytes bytes = begin(FUSE_RENAME2);
  const fuse_rename2_in rename{12, 1, 0};
  append(bytes, &rename, sizeof rename);
  append(bytes, "from");
  append(bytes, "to");
  REQUIRE(end(bytes, message).ok());
  CHECK(message.form->name == "rename2");
  CHECK(message.header.uid == 1000);
  CHECK(message.as<fuse_rename2_in>().newdir == 12);
  CHECK(message.as<fuse_rename2_in>().flags == 1);
  CHECK(message.names[0] == "from");
  CHECK(message.names[1] == "to");

  bytes = begin(FUSE_WRITE);
  fuse_write_in write{};
  write.size = 3;
  append(bytes, &write, sizeof write);
  append(bytes, "abc", 3);
  REQUIRE(end(bytes, message).ok());
  CHECK(message.payload.size() == 3);

  // The first versions of `init` have fewer words: the rest is 0.
  bytes = begin(FUSE_INIT);
  const std::uint32_t init[] = {7, 31, 4096, 5};
  append(bytes, init, sizeof init);
  REQUIRE(end(bytes, message).ok());
  CHECK(message.as<fuse_init_in>().flags == 5);
  CHECK(message.as<fuse_init_in>().flags2 == 0);
}

TEST_CASE("the fixed part of setxattr is as long as was agreed on") {
  Message message;
  const auto decoded = [&](std::size_t fixed, Negotiated negotiated) {
    Bytes bytes = begin(FUSE_SETXATTR);
    fuse_setxattr_in in{};
    in.size = 3;
    in.setxattr_flags = 1;
    append(bytes, &in, fixed);
    append(bytes, "user.name");
    append(bytes, "abc", 3);
    header_of(bytes).len = static_cast<std::uint32_t>(bytes.size());
    REQUIRE(decode(bytes, negotiated, message).ok());
    CHECK(message.names[0] == "user.name");
    CHECK(message.payload.size() == 3);
    return message.as<fuse_setxattr_in>().setxattr_flags;
  };
  CHECK(decoded(FUSE_COMPAT_SETXATTR_IN_SIZE, {}) == 0);
  CHECK(decoded(sizeof(fuse_setxattr_in), {.setxattr_ext = true}) == 1);
}

TEST_CASE("the group of a creation stands behind it") {
  Message message;
  const auto make = [&](const std::vector<std::uint32_t>& extension) {
    Bytes bytes = begin(FUSE_MKDIR);
    const fuse_mkdir_in mkdir{0755, 022};
    append(bytes, &mkdir, sizeof mkdir);
    append(bytes, "directory");  // no padding behind it
    append(bytes, extension.data(), extension.size() * 4);
    header_of(bytes).total_extlen = 2;
    return bytes;
  };
  Bytes bytes = make({16, abi::kExtGroups, 1, 2000});
  REQUIRE(end(bytes, message).ok());
  REQUIRE(message.groups.size() == 4);
  std::uint32_t group = 0;
  std::memcpy(&group, message.groups.data(), sizeof group);
  CHECK(group == 2000);
  CHECK(message.names[0] == "directory");

  for (const std::vector<std::uint32_t>& wrong :
       std::vector<std::vector<std::uint32_t>>{{16, abi::kExtGroups, 2, 2000},
                                               {4, abi::kExtGroups, 1, 2000},
                                               {24, abi::kExtGroups, 1, 2000},
                                               {16, abi::kExtGroups, 0xffffffff, 2000}}) {
    bytes = make(wrong);
    CHECK(error_of(end(bytes, message)) == EIO);
  }
}

TEST_CASE("what is no request is refused, and told from one that is not known") {
  Message message;
  Bytes bytes = begin(FUSE_LOOKUP);
  CHECK(error_of(end(bytes, message)) == EIO);  // no name
  append(bytes, "name", 4);
  CHECK(error_of(end(bytes, message)) == EIO);  // no end
  bytes = begin(FUSE_LOOKUP);
  append(bytes, "a/b");
  CHECK(error_of(end(bytes, message)) == EIO);
  bytes = begin(FUSE_LOOKUP);
  append(bytes, "name");
  append(bytes, "more");
  CHECK(error_of(end(bytes, message)) == EIO);
  bytes = begin(FUSE_GETATTR);
  CHECK(error_of(end(bytes, message)) == EIO);  // no fixed part
  bytes = begin(4000);
  CHECK(error_of(end(bytes, message)) == ENOSYS);
  CHECK(message.header.unique == 7);
  bytes = begin(FUSE_LOOKUP);
  append(bytes, "name");
  header_of(bytes).len = 4096;
  CHECK(error_of(decode(bytes, {}, message)) == EIO);
  bytes.resize(10);
  CHECK(error_of(decode(bytes, {}, message)) == EIO);
  CHECK(message.header.unique == 0);

  bytes = begin(FUSE_SYMLINK);
  append(bytes, "name");
  append(bytes, "../target");
  CHECK(end(bytes, message).ok());
  CHECK(message.names[1] == "../target");
}

// As a ring has it: what follows the fixed part lies elsewhere, and the kernel says where it
// begins.
void decode_in_two_places(std::span<const std::byte> bytes, std::mt19937_64& random) {
  fuse_in_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const auto body = bytes.subspan(sizeof header);
  const Form* const form = form_of(header.opcode);
  const std::size_t fixed = form != nullptr && random() % 2 == 0
                                ? std::min<std::size_t>(form->most, body.size())
                                : random() % (body.size() + 1);
  const Bytes first(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(fixed));
  const Bytes rest(body.begin() + static_cast<std::ptrdiff_t>(fixed), body.end());
  Message apart;
  const bool right = decode(header, first, rest, apart).ok();
  Message whole;
  if (form == nullptr || fixed != std::min<std::size_t>(form->most, body.size())) return;
  REQUIRE(decode(bytes, {.setxattr_ext = true}, whole).ok() == right);
  if (!right) return;
  CHECK(apart.names == whole.names);
  CHECK(std::ranges::equal(apart.fixed, whole.fixed));
  CHECK(std::ranges::equal(apart.payload, whole.payload));
  CHECK(std::ranges::equal(apart.groups, whole.groups));
}

TEST_CASE("no bytes make it read beyond them") {
  const std::uint64_t first = testing::number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t count = testing::number_from("LIBSERVICES_MESSAGES", 200000);
  std::mt19937_64 random(first);
  std::size_t right = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    // On the heap and of just that size, so that a tool sees a byte too many.
    const std::size_t size = random() % 160;
    const std::unique_ptr<std::byte[]> bytes(new std::byte[size]);
    for (std::size_t at = 0; at < size; ++at) {
      bytes[at] = static_cast<std::byte>(random() % 3 == 0 ? random() : 0);
    }
    if (size >= sizeof(fuse_in_header)) {
      fuse_in_header header;
      std::memcpy(&header, bytes.get(), sizeof header);
      header.len = static_cast<std::uint32_t>(size);
      header.opcode = static_cast<std::uint32_t>(random() % 56);
      header.total_extlen = random() % 4 == 0 ? static_cast<std::uint16_t>(random() % 20) : 0;
      std::memcpy(bytes.get(), &header, sizeof header);
    }
    if (size >= sizeof(fuse_in_header)) decode_in_two_places({bytes.get(), size}, random);
    Message message;
    if (!decode({bytes.get(), size}, {.setxattr_ext = i % 2 == 0}, message).ok()) continue;
    ++right;
    const auto inside = [&](const void* at, std::size_t length) {
      const auto* const start = static_cast<const std::byte*>(at);
      return length == 0 || (start >= bytes.get() && start + length <= bytes.get() + size);
    };
    CHECK(inside(message.fixed.data(), message.fixed.size()));
    CHECK(inside(message.payload.data(), message.payload.size()));
    CHECK(inside(message.groups.data(), message.groups.size()));
    for (const auto& name : message.names) CHECK(inside(name.data(), name.size()));
    (void)message.as<abi::StatxIn>();
  }
  CHECK(right > count / 100);
}

TEST_CASE("device numbers come back as they were") {
  for (const std::uint64_t device :
       {makedev(0, 0), makedev(1, 3), makedev(8, 300), makedev(4095, 1048575)}) {
    CHECK(abi::decode_device(abi::encode_device(device)) == device);
  }
}

}  // namespace
}  // namespace libservices::fuse
