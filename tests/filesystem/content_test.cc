// SPDX-License-Identifier: Apache-2.0

#include "tests/filesystem/stacks.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("an open file has one offset for all who share it", S, content_offset) {
  LIBSERVICES_SUT(S);
  auto file = sut.open(sut.root, "/f", O_CREAT | O_RDWR);
  CHECK(*sut->write(sut.root, *file, bytes_of("hello")) == 5);
  CHECK(*sut->write(sut.root, *file, bytes_of(" world")) == 6);
  CHECK(*sut->lseek(sut.root, *file, 0, SEEK_CUR) == 11);
  CHECK(*sut->lseek(sut.root, *file, -5, SEEK_END) == 6);
  std::array<std::byte, 3> three;
  CHECK(*sut->read(sut.root, *file, three) == 3);
  CHECK(std::memcmp(three.data(), "wor", 3) == 0);
  CHECK(*sut->pread(sut.root, *file, 0, three) == 3);
  CHECK(std::memcmp(three.data(), "hel", 3) == 0);
  CHECK(*sut->lseek(sut.root, *file, 0, SEEK_CUR) == 9);
  CHECK(*sut->pwrite(sut.root, *file, 0, bytes_of("J")) == 1);
  CHECK(*sut->lseek(sut.root, *file, 0, SEEK_CUR) == 9);
  CHECK(error_of(sut->lseek(sut.root, *file, -1, SEEK_SET)) == EINVAL);
  CHECK(error_of(sut->lseek(sut.root, *file, 0, 99)) == EINVAL);
  CHECK(*sut->lseek(sut.root, *file, 100, SEEK_SET) == 100);
  CHECK(*sut->read(sut.root, *file, three) == 0);
  CHECK(sut.read("/f") == "Jello world");
  sut.close(std::move(file));
}

TEST_CASE_TEMPLATE_DEFINE("access modes are kept", S, content_modes) {
  LIBSERVICES_SUT(S);
  sut.write("/f", "text");
  std::array<std::byte, 4> four;
  auto reader = sut.open(sut.root, "/f", O_RDONLY);
  CHECK(error_of(sut->write(sut.root, *reader, bytes_of("x"))) == EBADF);
  CHECK(error_of(sut->fallocate(sut.root, *reader, 0, 0, 1)) == EBADF);
  CHECK(sut.set_size(sut.root, Location(*reader), 1) == EINVAL);
  auto writer = sut.open(sut.root, "/f", O_WRONLY);
  CHECK(error_of(sut->read(sut.root, *writer, four)) == EBADF);
  auto path = sut.open(sut.root, "/f", O_PATH);
  CHECK(error_of(sut->read(sut.root, *path, four)) == EBADF);
  CHECK(error_of(sut->write(sut.root, *path, bytes_of("x"))) == EBADF);
  CHECK(error_of(sut->lseek(sut.root, *path, 0, SEEK_SET)) == EBADF);
  CHECK(error_of(sut->fsync(sut.root, *path, SyncScope::kAll)) == EBADF);
  CHECK(sut.set_mode(sut.root, Location(*path), 0600) == EBADF);
  CHECK(sut.stat(Location(*path)).size == 4);
  auto directory = sut.open(sut.root, "/", O_RDONLY);
  CHECK(error_of(sut->read(sut.root, *directory, four)) == EISDIR);
  CHECK(error_of(sut->open(sut.root, "/", {O_WRONLY}, 0)) == EISDIR);
  CHECK(error_of(sut->open(sut.root, "/", {O_RDONLY | O_CREAT}, 0644)) == EISDIR);
  CHECK(error_of(sut->open(sut.root, "/f", {O_RDONLY | O_DIRECTORY}, 0)) == ENOTDIR);
  for (auto* file : {&reader, &writer, &path, &directory}) sut.close(std::move(*file));
}

TEST_CASE_TEMPLATE_DEFINE("appends go to the end, whoever else writes", S, content_append) {
  LIBSERVICES_SUT(S);
  auto first = sut.open(sut.root, "/log", O_CREAT | O_WRONLY | O_APPEND);
  auto second = sut.open(sut.root, "/log", O_WRONLY | O_APPEND);
  CHECK(*sut->write(sut.root, *first, bytes_of("one ")) == 4);
  CHECK(*sut->write(sut.root, *second, bytes_of("two ")) == 4);
  CHECK(*sut->write(sut.root, *first, bytes_of("three")) == 5);
  CHECK(*sut->lseek(sut.root, *first, 0, SEEK_CUR) == 13);
  CHECK(*sut->pwrite(sut.root, *second, 0, bytes_of("!")) == 1);
  CHECK(sut.read("/log") == "one two three!");
  first->set_flags(0);
  CHECK(*sut->lseek(sut.root, *first, 0, SEEK_SET) == 0);
  CHECK(*sut->write(sut.root, *first, bytes_of("ONE")) == 3);
  CHECK(sut.read("/log") == "ONE two three!");
  // One call may have it otherwise.
  CHECK(*sut->write(sut.root, *first, bytes_of("+"), Placing::kAtEnd) == 1);
  CHECK(*sut->lseek(sut.root, *first, 0, SEEK_CUR) == 15);
  CHECK(*sut->pwrite(sut.root, *first, 0, bytes_of("+"), Placing::kAtEnd) == 1);
  CHECK(*sut->lseek(sut.root, *first, 0, SEEK_CUR) == 15);
  CHECK(*sut->pwrite(sut.root, *second, 4, bytes_of("TWO"), Placing::kAtOffset) == 3);
  CHECK(*sut->lseek(sut.root, *second, 8, SEEK_SET) == 8);
  CHECK(*sut->write(sut.root, *second, bytes_of("THREE"), Placing::kAtOffset) == 5);
  CHECK(*sut->lseek(sut.root, *second, 0, SEEK_CUR) == 13);
  CHECK(sut.read("/log") == "ONE TWO THREE!++");
  sut.close(std::move(first));
  sut.close(std::move(second));
}

TEST_CASE_TEMPLATE_DEFINE("a file lives on without a name while it is open", S, content_unlinked) {
  LIBSERVICES_SUT(S);
  sut.write("/f", "kept");
  auto file = sut.open(sut.root, "/f", O_RDWR);
  const std::uint64_t inode = sut.stat("/f").inode;
  REQUIRE(error_of(sut->unlink(sut.root, "/f")) == 0);
  CHECK(error_of(sut->stat(sut.root, "/f")) == ENOENT);
  CHECK(sut.stat(Location(*file)).links == 0);
  CHECK(sut.stat(Location(*file)).inode == inode);
  sut.write("/f", "another");
  std::array<std::byte, 10> chunk;
  CHECK(*sut->read(sut.root, *file, chunk) == 4);
  CHECK(*sut->write(sut.root, *file, bytes_of(" on")) == 3);
  CHECK(sut.set_mode(sut.root, Location(*file), 0600) == 0);
  CHECK(sut.stat(Location(*file)).size == 7);
  CHECK(sut.read("/f") == "another");
  CHECK(sut.stat("/f").inode != inode);
  sut.close(std::move(file));
  CHECK(sut->counters().open_files == 0);
}

TEST_CASE_TEMPLATE_DEFINE("holes read as zeros, and truncation forgets", S, content_holes) {
  LIBSERVICES_SUT(S);
  auto file = sut.open(sut.root, "/f", O_CREAT | O_RDWR);
  CHECK(*sut->pwrite(sut.root, *file, 100'000, bytes_of("end")) == 3);
  CHECK(sut.stat("/f").size == 100'003);
  const std::string text = sut.read("/f");
  CHECK(text.size() == 100'003);
  CHECK(text.find_first_not_of('\0') == 100'000);
  CHECK(sut.set_size(sut.root, Location(*file), 100'001) == 0);
  CHECK(sut.set_size(sut.root, "/f", 100'010) == 0);
  CHECK(sut.read("/f").substr(99'999) == std::string("\0e\0\0\0\0\0\0\0\0\0", 11));
  CHECK(*sut->lseek(sut.root, *file, 0, SEEK_DATA) <= 100'000);
  CHECK(error_of(sut->lseek(sut.root, *file, 100'010, SEEK_DATA)) == ENXIO);
  CHECK(sut.set_size(sut.root, "/f", UINT64_MAX) == EINVAL);
  CHECK(sut.set_size(sut.root, "/", 0) == EISDIR);
  sut.close(std::move(file));
}

TEST_CASE_TEMPLATE_DEFINE("ranges are copied inside the instance", S, content_copy) {
  LIBSERVICES_SUT(S);
  sut.write("/from", "0123456789");
  sut.write("/to", "abc");
  auto from = sut.open(sut.root, "/from", O_RDONLY);
  auto to = sut.open(sut.root, "/to", O_RDWR);
  CHECK(*sut->copy_range(sut.root, *from, 2, *to, 1, 4) == 4);
  CHECK(sut.read("/to") == "a2345");
  CHECK(*sut->copy_range(sut.root, *from, 8, *to, 0, 100) == 2);
  CHECK(sut.read("/to") == "89345");
  CHECK(error_of(sut->copy_range(sut.root, *to, 0, *from, 0, 1)) == EBADF);
  CHECK(error_of(sut->copy_range(sut.root, *to, 0, *to, 1, 3)) == EINVAL);
  sut.close(std::move(from));
  sut.close(std::move(to));
}

TEST_CASE_TEMPLATE_DEFINE("attributes follow every change at once", S, content_attributes) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  const Attributes empty = sut.stat("/d");
  CHECK(empty.links == 2);
  sut.write("/d/f", "12345");
  CHECK(sut.stat("/d/f").size == 5);
  CHECK(sut.stat("/d").mtime >= empty.mtime);
  sut.mkdir("/d/sub");
  CHECK(sut.stat("/d").links == 3);
  REQUIRE(error_of(sut->link(sut.root, "/d/f", "/d/g")) == 0);
  CHECK(sut.stat("/d/f").links == 2);
  CHECK(sut.stat("/d/g").inode == sut.stat("/d/f").inode);
  auto file = sut.open(sut.root, "/d/g", O_WRONLY | O_APPEND);
  REQUIRE(sut->write(sut.root, *file, bytes_of("678")).ok());
  CHECK(sut.stat("/d/f").size == 8);
  CHECK(sut.stat(Location(*file)).size == 8);
  sut.close(std::move(file));
  REQUIRE(error_of(sut->unlink(sut.root, "/d/f")) == 0);
  CHECK(sut.stat("/d/g").links == 1);
  REQUIRE(error_of(sut->rmdir(sut.root, "/d/sub")) == 0);
  CHECK(sut.stat("/d").links == 2);
}

TEST_CASE_TEMPLATE_DEFINE("locks keep others out and end with their owner", S, content_locks) {
  LIBSERVICES_SUT(S);
  using Owner = LockRequest::Owner;
  using Type = LockRequest::Type;
  sut.write("/f", "0123456789", 0666);
  REQUIRE(sut.set_mode(sut.root, "/f", 0666) == 0);
  auto hers = sut.open(sut.alice, "/f", O_RDWR);
  auto his = sut.open(sut.bob, "/f", O_RDWR);
  const LockRequest whole{.owner = Owner::kRecord, .type = Type::kExclusive};
  const LockRequest head{.owner = Owner::kRecord, .type = Type::kExclusive, .start = 0, .end = 3};
  const LockRequest tail{.owner = Owner::kRecord, .type = Type::kShared, .start = 4, .end = 9};
  CHECK(error_of(sut->lock(sut.alice, *hers, head)) == 0);
  CHECK(error_of(sut->lock(sut.bob, *his, head)) == EAGAIN);
  CHECK(error_of(sut->lock(sut.bob, *his, whole)) == EAGAIN);
  CHECK(error_of(sut->lock(sut.bob, *his, tail)) == 0);
  CHECK(error_of(sut->lock(sut.alice, *hers, tail)) == 0);
  auto conflict = sut->test_lock(sut.bob, *his, head);
  REQUIRE(conflict.ok());
  CHECK(conflict->type == Type::kExclusive);
  CHECK(conflict->process == 1000);
  CHECK(conflict->end == 3);
  SUBCASE("a part is unlocked") {
    LockRequest part = head;
    part.type = Type::kUnlock;
    part.start = 1;
    part.end = 2;
    CHECK(error_of(sut->lock(sut.alice, *hers, part)) == 0);
    part.type = Type::kExclusive;
    CHECK(error_of(sut->lock(sut.bob, *his, part)) == 0);
    CHECK(error_of(sut->lock(sut.bob, *his, head)) == EAGAIN);
  }
  SUBCASE("any close by the process drops its record locks") {
    auto other = sut.open(sut.alice, "/f", O_RDONLY);
    CHECK(error_of(sut->close(sut.alice, std::move(other))) == 0);
    CHECK(error_of(sut->lock(sut.bob, *his, head)) == 0);
  }
  SUBCASE("the end of the process drops them too") {
    sut->forget_process(1000);
    CHECK(error_of(sut->lock(sut.bob, *his, head)) == 0);
  }
  SUBCASE("flock locks belong to the open file and do not meet record locks") {
    const LockRequest flock{.owner = Owner::kFlock, .type = Type::kExclusive};
    CHECK(error_of(sut->lock(sut.bob, *his, flock)) == 0);
    CHECK(error_of(sut->lock(sut.alice, *hers, flock)) == EAGAIN);
    CHECK(error_of(sut->close(sut.bob, std::move(his))) == 0);
    CHECK(error_of(sut->lock(sut.alice, *hers, flock)) == 0);
  }
  SUBCASE("a lock needs the access it protects") {
    auto reader = sut.open(sut.bob, "/f", O_RDONLY);
    CHECK(error_of(sut->lock(sut.bob, *reader, whole)) == EBADF);
    sut.close(std::move(reader));
  }
  if (hers) sut.close(std::move(hers));
  if (his) sut.close(std::move(his));
  sut->forget_process(1000);
  sut->forget_process(1001);
  CHECK(sut->counters().locks == 0);
}

LIBSERVICES_OVER_EVERY_STACK(content_offset);
LIBSERVICES_OVER_EVERY_STACK(content_modes);
LIBSERVICES_OVER_EVERY_STACK(content_append);
LIBSERVICES_OVER_EVERY_STACK(content_unlinked);
LIBSERVICES_OVER_EVERY_STACK(content_holes);
LIBSERVICES_OVER_EVERY_STACK(content_copy);
LIBSERVICES_OVER_EVERY_STACK(content_attributes);
LIBSERVICES_OVER_EVERY_STACK(content_locks);

}  // namespace libservices::testing
