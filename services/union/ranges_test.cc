// SPDX-License-Identifier: Apache-2.0
//
// RangeMap against a plain list of which bytes are where.
#include "services/union/ranges.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

namespace libservices::union_internal {
namespace {

constexpr std::uint64_t kChunk = 4096;
constexpr unsigned kShift = 12;

Attributes lower_of(std::uint64_t size) {
  Attributes lower;
  lower.size = size;
  lower.mtime = {12, 34, 0};
  return lower;
}

TEST_CASE("what is behind the limit is here, everything else is below at first") {
  RangeMap map(kShift, lower_of(10'000));
  CHECK_FALSE(map.piece_at(0).here);
  CHECK(map.piece_at(0).end == 10'000);
  CHECK(map.piece_at(10'000).here);
  CHECK(map.is_here(10'000, 1'000'000));
  CHECK_FALSE(map.is_here(9'999, 10'001));
  CHECK_FALSE(map.is_whole());
  map.bring(5'000, 5'001);
  CHECK(map.is_here(4'096, 8'192));
  CHECK(map.piece_at(0).end == 4'096);
  CHECK(map.piece_at(8'192).end == 10'000);
  map.cut(4'000);
  CHECK(map.is_here(4'000, 8'192));
  CHECK_FALSE(map.is_here(3'999, 4'000));
  map.bring(0, 1);
  CHECK(map.is_whole());
  CHECK(RangeMap(kShift, lower_of(0)).is_whole());
}

TEST_CASE("random changes agree with a list of bytes, and so do their encodings") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    const std::uint64_t size = below(60 * kChunk) + 1;
    RangeMap map(kShift, lower_of(size));
    std::vector<bool> here(size, false);  // by byte below the limit
    std::vector<bool> synced(size, false);
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t offset = below(size + kChunk);
      const std::uint64_t end = offset + below(5 * kChunk);
      switch (below(6)) {
        case 0:
          map.cut(offset);
          if (offset < here.size()) {
            here.resize(offset);
            synced.resize(offset);
          }
          break;
        case 1:
          map.set_synced(map.unsynced());
          synced = here;
          break;
        default:
          map.bring(offset, end);
          for (std::uint64_t at = offset; at < std::min<std::uint64_t>(end, here.size()); ++at) {
            for (std::uint64_t i = at / kChunk * kChunk;
                 i < std::min<std::uint64_t>((at / kChunk + 1) * kChunk, here.size()); ++i) {
              here[i] = true;
            }
            at = std::max(at, (at / kChunk + 1) * kChunk - 1);
          }
      }
      auto decoded = RangeMap::decode(map.encode(77));
      REQUIRE(decoded);
      CHECK(decoded->epoch() == 77);
      CHECK(decoded->limit() == map.limit());
      for (const RangeMap* const one : {&map, &*decoded}) {
        for (std::uint64_t at = 0; at < here.size();) {
          const auto piece = one->piece_at(at);
          REQUIRE(piece.end > at);
          const std::uint64_t end = std::min<std::uint64_t>(piece.end, here.size());
          REQUIRE(here[end - 1] == piece.here);
          for (; at < end; at += 509) REQUIRE(here[at] == piece.here);
          at = end;
        }
      }
      (void)decoded->take_unsynced();
      for (std::uint64_t at = 0; at < here.size(); at += 509) {
        if (synced[at]) REQUIRE(decoded->piece_at(at).here);
        if (!here[at]) REQUIRE_FALSE(decoded->piece_at(at).here);
      }
    }
  }
}

TEST_CASE("chunks of twice the size are here where both halves were") {
  RangeMap map(kShift, lower_of(9 * kChunk));
  map.bring(2 * kChunk, 6 * kChunk);
  map.bring(8 * kChunk, 9 * kChunk);
  map.coarsen();
  CHECK(map.chunk_bytes() == 2 * kChunk);
  CHECK(map.is_here(2 * kChunk, 6 * kChunk));
  CHECK(map.is_here(8 * kChunk, 9 * kChunk));
  CHECK_FALSE(map.is_here(0, 1));
  CHECK_FALSE(map.is_here(7 * kChunk, 7 * kChunk + 1));
}

TEST_CASE("damaged maps are refused, whatever is in them") {
  RangeMap map(kShift, lower_of(1'000'000));
  map.bring(0, 10'000);
  map.bring(500'000, 600'000);
  const auto good = map.encode(1);
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK_FALSE(RangeMap::decode(std::span(good).first(size)));
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    auto bad = good;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    }
    if (auto decoded = RangeMap::decode(bad)) {  // it says something else, but nothing senseless
      CHECK(decoded->limit() <= decoded->stamp().size);
      (void)decoded->is_whole();
      (void)decoded->encode(1);
    }
  }
}

}  // namespace
}  // namespace libservices::union_internal
