// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/hot_pages.h"

#include <doctest/doctest.h>

#include <random>
#include <thread>
#include <vector>

namespace libservices::ceph_internal {
namespace {

constexpr std::uint64_t kPage = HotPages::kPage;

// What stands in a file at an offset.
std::byte byte_of(std::uint64_t file, std::uint64_t offset) {
  return static_cast<std::byte>((file * 31 + offset * 7 + offset / kPage) & 0xffU);
}

std::vector<std::byte> text_of(std::uint64_t file, std::uint64_t offset, std::uint64_t size) {
  std::vector<std::byte> text(size);
  for (std::uint64_t i = 0; i < size; ++i) text[i] = byte_of(file, offset + i);
  return text;
}

TEST_CASE("pages that were read whole are here, and no others") {
  HotPages pages(64 * 64 * kPage);
  pages.keep(1, kPage / 2, text_of(1, kPage / 2, 2 * kPage + 100));  // the second alone
  std::vector<std::byte> into(kPage);
  CHECK(pages.read(1, kPage, into));
  CHECK(into == text_of(1, kPage, kPage));
  CHECK_FALSE(pages.read(1, 0, into));
  CHECK_FALSE(pages.read(1, 2 * kPage, into));
  CHECK_FALSE(pages.read(1, kPage + 1, into));  // goes on in the third
  CHECK_FALSE(pages.read(2, kPage, into));
  into.resize(100);
  CHECK(pages.read(1, kPage + 1, into));
  CHECK(into == text_of(1, kPage + 1, 100));
}

TEST_CASE("without memory, and for large reads, there are none") {
  CHECK_FALSE(HotPages(0).takes(1));
  const HotPages pages(64 * kPage);
  CHECK(pages.takes(HotPages::kLargestRead));
  CHECK_FALSE(pages.takes(HotPages::kLargestRead + 1));
}

TEST_CASE("what is here is right, whatever has come and gone, from several threads") {
  HotPages pages(2 * 64 * kPage);  // two in each part: pages go all the time
  std::atomic<int> wrong{0};
  std::atomic<int> found{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> into;
    for (int i = 0; i < 20000; ++i) {
      const std::uint64_t file = random() % 3;
      const std::uint64_t offset = random() % (200 * kPage);
      const std::uint64_t size = random() % (3 * kPage) + 1;
      into.assign(size, std::byte{0});
      if (pages.read(file, offset, into)) {
        ++found;
        if (into != text_of(file, offset, size)) ++wrong;
      } else {
        pages.keep(file, offset, text_of(file, offset, size));
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(found > 100);
}

}  // namespace
}  // namespace libservices::ceph_internal
