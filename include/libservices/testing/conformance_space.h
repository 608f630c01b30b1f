// SPDX-License-Identifier: Apache-2.0
//
// Conformance of space: fallocate, holes, copies inside the service and statfs.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_SPACE_H_
#define LIBSERVICES_TESTING_CONFORMANCE_SPACE_H_

#include "libservices/testing/instance.h"

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
    const auto copied = must(fs.service.copy_range(fs.context, from, 5 + done, to, 2 + done,
                                                   9 - done));
    REQUIRE(copied > 0);
    done += copied;
  }
  CHECK(done == 9);
  CHECK(fs.content(node) == "01" + std::string(kSeedText.substr(5, 9)));
  CHECK(must(fs.service.copy_range(fs.context, from, kSeedText.size(), to, 0, 10)) == 0);
  fs.close(from);
  fs.close(to);
}

TEST_CASE_TEMPLATE_DEFINE("statfs tells a volume that makes sense", Stack,
                          conform_statfs) {
  Instance<Stack> fs;
  const VolumeInfo info = must(fs.service.statfs(fs.context, fs.root()));
  CHECK(info.block_size > 0);
  CHECK(info.blocks_free <= info.blocks);
  CHECK(info.blocks_available <= info.blocks_free);
  CHECK(info.name_max >= 255);
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_SPACE(Stack)                    \
  LIBSERVICES_CASE(conform_fallocate, Stack, OffersFallocate);  \
  LIBSERVICES_CASE(conform_punch_hole, Stack, OffersFallocate); \
  LIBSERVICES_CASE(conform_seek, Stack, OffersSeek);            \
  LIBSERVICES_CASE(conform_copy_range, Stack, OffersCopyRange); \
  LIBSERVICES_CASE(conform_statfs, Stack, OffersStatfs);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_SPACE_H_
