// SPDX-License-Identifier: Apache-2.0
//
// Conformance of space: fallocate, holes, copies inside the service and statfs.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_SPACE_H_
#define LIBSERVICES_TESTING_CONFORMANCE_SPACE_H_

#include <unistd.h>

#include <algorithm>
#include <string>

#include "libservices/testing/instance.h"

namespace libservices {

template <class S>
concept OffersWrittenBacking = OffersBacking<S> && WritableService<S>;
template <class S>
concept OffersWritableLocks = OffersLocks<S> && WritableService<S>;

}  // namespace libservices

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("allocating extends the file unless its size is to be kept", Stack,
                          conform_fallocate) {
  Instance<Stack> fs;
  const auto node = fs.find("file");
  auto file = fs.open(node, O_RDWR);
  must(fs.service.fallocate(fs.context, file, FALLOC_FL_KEEP_SIZE, 0, 100000));
  CHECK(fs.attributes(node).size == kSeedText.size());
  must(fs.service.fallocate(fs.context, file, 0, 0, 5000));
  CHECK(fs.attributes(node).size == 5000);
  CHECK(fs.read_from(file, 0, kSeedText.size()) == kSeedText);
  CHECK(fs.read_from(file, 4999, 10) == std::string(1, '\0'));
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("a punched hole reads as zeros, and the size stays", Stack,
                          conform_punch_hole) {
  Instance<Stack> fs;
  const auto node = fs.make(fs.root(), "new", std::string(20000, 'x'));
  auto file = fs.open(node, O_RDWR);
  const auto punched = fs.service.fallocate(
      fs.context, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 10000);
  if (punched.ok()) {
    std::string expected(20000, 'x');
    expected.replace(1000, 10000, std::string(10000, '\0'));
    CHECK((fs.read_from(file, 0, 30000) == expected));
  } else {
    CHECK(error_of(punched) == EOPNOTSUPP);
  }
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("seek finds data and holes, and nothing behind the end", Stack,
                          conform_seek) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"));
  const auto seek = [&](std::uint64_t offset, SeekTarget target) {
    return fs.service.seek(fs.context, file, offset, target);
  };
  CHECK(must(seek(0, SeekTarget::kData)) == 0);
  CHECK(must(seek(3, SeekTarget::kData)) == 3);
  CHECK(must(seek(0, SeekTarget::kHole)) == kSeedText.size());
  CHECK(error_of(seek(kSeedText.size(), SeekTarget::kData)) == ENXIO);
  CHECK(error_of(seek(kSeedText.size(), SeekTarget::kHole)) == ENXIO);
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("copy_range copies bytes from place to place", Stack,
                          conform_copy_range) {
  Instance<Stack> fs;
  auto from = fs.open(fs.find("file"));
  const auto node = fs.make(fs.root(), "new", "0123456789");
  auto to = fs.open(node, O_RDWR);
  std::uint64_t done = 0;
  while (done < 9) {
    const auto copied =
        must(fs.service.copy_range(fs.context, from, 5 + done, to, 2 + done, 9 - done));
    REQUIRE(copied > 0);
    done += copied;
  }
  CHECK(done == 9);
  CHECK(fs.content(node) == "01" + std::string(kSeedText.substr(5, 9)));
  CHECK(must(fs.service.copy_range(fs.context, from, kSeedText.size(), to, 0, 10)) == 0);
  fs.close(from);
  fs.close(to);
}

TEST_CASE_TEMPLATE_DEFINE("who has the backing of a file reads it", Stack, conform_backing) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"));
  const auto backing = fs.service.backing(fs.context, file, BackingUse::kWhileOpen);
  if (backing.ok()) {
    std::string bytes(100, '\0');
    const ssize_t count = ::pread(backing->descriptor, bytes.data(), bytes.size(), 0);
    CHECK(bytes.substr(0, static_cast<std::size_t>(std::max<ssize_t>(count, 0))) == kSeedText);
  } else {
    CHECK(error_of(backing) == EOPNOTSUPP);  // it has none for this file
  }
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("who has the backing of a file writes it", Stack,
                          conform_written_backing) {
  Instance<Stack> fs;
  const auto node = fs.make(fs.root(), "new", std::string(10000, 'x'));
  auto file = fs.open(node, O_RDWR);
  auto other = fs.open(node, O_RDWR);
  const auto backing = fs.service.backing(fs.context, file, BackingUse::kWhileOpen);
  if (!backing.ok()) {  // it has none for this file
    CHECK(error_of(backing) == EOPNOTSUPP);
    fs.close(file);
    fs.close(other);
    return;
  }
  const int fd = backing->descriptor;
  const auto seen = [&](std::size_t size) {
    std::string bytes(size, '\0');
    const ssize_t count = ::pread(fd, bytes.data(), size, 0);
    REQUIRE(count >= 0);
    bytes.resize(static_cast<std::size_t>(count));
    return bytes;
  };
  CHECK((seen(20000) == std::string(10000, 'x')));
  must(fs.service.write(fs.context, other, 3, bytes_of("abc")));
  CHECK(seen(8) == "xxxabcxx");
  must(fs.service.write(fs.context, file, 20000, bytes_of("end")));
  CHECK(seen(30000).size() == 20003);

  REQUIRE(::pwrite(fd, "outside", 7, 30000) == 7);
  CHECK(fs.attributes(node).size == 30007);
  CHECK(fs.read_from(other, 30000, 100) == "outside");
  CHECK(fs.read_from(other, 29999, 1) == std::string(1, '\0'));
  AttributeChanges changes;
  changes.which = AttributeChanges::kSize | AttributeChanges::kMtime;
  changes.size = 5;
  changes.mtime = {1000, 7, 0};
  must(fs.service.setattr(fs.context, node, changes));
  CHECK(seen(100) == "xxxab");
  CHECK(fs.attributes(node).mtime == changes.mtime);
  REQUIRE(::pwrite(fd, "y", 1, 0) == 1);
  CHECK(fs.attributes(node).mtime > changes.mtime);
  fs.close(file);
  fs.close(other);
  CHECK(fs.content(node) == "yxxab");
}

// Whom a lock keeps out elsewhere needs another client of the storage, and is its own tests'
// affair.
TEST_CASE_TEMPLATE_DEFINE("locks are had, changed and given back", Stack, conform_locks) {
  using Owner = LockRequest::Owner;
  using Type = LockRequest::Type;
  Instance<Stack> fs;
  const auto node = fs.make(fs.root(), "new", "0123456789");
  auto file = fs.open(node, O_RDWR);
  auto other = fs.open(node, O_RDWR);
  const auto ask = [&](auto& through, std::uint64_t owner, Owner kind, Type type,
                       std::uint64_t start, std::uint64_t end) {
    const LockRequest request{.owner = kind, .type = type, .start = start, .end = end};
    const LockRequest found = must(fs.service.test_lock(fs.context, through, owner, request));
    CHECK(found.type == Type::kUnlock);
    must(fs.service.lock(fs.context, through, owner, request));
  };
  for (const Owner kind : {Owner::kRecord, Owner::kOpenFile, Owner::kFlock}) {
    CAPTURE(static_cast<int>(kind));
    ask(file, 1, kind, Type::kExclusive, 0, UINT64_MAX);
    ask(file, 1, kind, Type::kShared, 0, UINT64_MAX);
    ask(other, 2, kind, Type::kShared, 0, UINT64_MAX);
    ask(file, 1, kind, Type::kUnlock, 0, UINT64_MAX);
    ask(other, 2, kind, Type::kExclusive, 0, UINT64_MAX);
    ask(other, 2, kind, Type::kUnlock, 0, UINT64_MAX);
  }
  ask(file, 1, Owner::kRecord, Type::kExclusive, 0, 99);
  ask(file, 1, Owner::kRecord, Type::kUnlock, 10, 19);
  ask(other, 2, Owner::kRecord, Type::kExclusive, 10, 19);
  ask(file, 1, Owner::kRecord, Type::kExclusive, INT64_MAX, UINT64_MAX);
  // Of what is locked nothing is left when the file is closed.
  fs.close(file);
  ask(other, 2, Owner::kRecord, Type::kExclusive, 0, UINT64_MAX);
  fs.close(other);
  CHECK(fs.content(node) == "0123456789");
}

TEST_CASE_TEMPLATE_DEFINE("statfs tells a volume that makes sense", Stack, conform_statfs) {
  Instance<Stack> fs;
  const VolumeInfo info = must(fs.service.statfs(fs.context, fs.root()));
  CHECK(info.block_size > 0);
  CHECK(info.blocks_free <= info.blocks);
  CHECK(info.blocks_available <= info.blocks_free);
  CHECK(info.name_max >= 255);
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_SPACE(Stack)                              \
  LIBSERVICES_CASE(conform_fallocate, Stack, OffersFallocate);            \
  LIBSERVICES_CASE(conform_punch_hole, Stack, OffersFallocate);           \
  LIBSERVICES_CASE(conform_seek, Stack, OffersSeek);                      \
  LIBSERVICES_CASE(conform_copy_range, Stack, OffersCopyRange);           \
  LIBSERVICES_CASE(conform_backing, Stack, OffersBacking);                \
  LIBSERVICES_CASE(conform_written_backing, Stack, OffersWrittenBacking); \
  LIBSERVICES_CASE(conform_locks, Stack, OffersWritableLocks);            \
  LIBSERVICES_CASE(conform_statfs, Stack, OffersStatfs);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_SPACE_H_
