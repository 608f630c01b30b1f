// SPDX-License-Identifier: Apache-2.0
#include "ipc/copy_kernels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ipc/copy.h"

namespace libservices::ipc {
namespace {

constexpr std::size_t kGuard = 128;
constexpr unsigned char kGuardByte = 0xA5;

std::vector<CopyRecipe> all_recipes(std::vector<unsigned> prefetch_lines) {
  std::vector<CopyRecipe> recipes{{}, {.kernel = CopyKernel::kRepMovsb}};
  for (const CopyKernel kernel : {CopyKernel::kSse2, CopyKernel::kAvx2, CopyKernel::kAvx512}) {
    for (const unsigned unroll : {1U, 2U, 4U, 8U}) {
      for (const unsigned streaming : {0U, 1U}) {
        for (const unsigned lines : prefetch_lines) {
          recipes.push_back({kernel, static_cast<std::uint8_t>(unroll),
                             static_cast<std::uint8_t>(streaming),
                             static_cast<std::uint8_t>(lines)});
        }
      }
    }
  }
  std::erase_if(recipes, [](CopyRecipe each) { return !can_run(each.kernel); });
  return recipes;
}

// Bytes of which no two neighbourhoods are alike, with guards around the destination.
class Ground {
 public:
  explicit Ground(std::size_t most) : source_(most + 128), target_(most + 128 + 2 * kGuard) {
    std::minstd_rand random(7);
    for (unsigned char& each : source_) each = static_cast<unsigned char>(random() >> 8U);
    std::fill(target_.begin(), target_.end(), kGuardByte);
  }

  // Whether exactly the bytes that were asked for are copied.
  bool holds(CopyRecipe recipe, std::size_t size, std::size_t to_offset, std::size_t from_offset) {
    unsigned char* const base = target_.data() + kGuard;
    unsigned char* const to =
        base + (64 - reinterpret_cast<std::uintptr_t>(base) % 64) % 64 + to_offset;
    const unsigned char* const from = source_.data() + from_offset;
    copy_by(recipe, to, from, size);
    const auto is_guard = [](unsigned char each) { return each == kGuardByte; };
    const bool good = std::memcmp(to, from, size) == 0 && std::all_of(to - kGuard, to, is_guard) &&
                      std::all_of(to + size, to + size + kGuard - 64, is_guard);
    std::memset(to, kGuardByte, size);
    return good;
  }

 private:
  std::vector<unsigned char> source_;
  std::vector<unsigned char> target_;
};

std::string words(CopyRecipe recipe) {
  return "kernel " + std::to_string(static_cast<int>(recipe.kernel)) + " unroll " +
         std::to_string(recipe.unroll) + " streaming " + std::to_string(recipe.streaming) +
         " prefetch " + std::to_string(recipe.prefetch_lines);
}

TEST_CASE("every kernel copies each small size exactly, at every alignment") {
  Ground ground(1024);
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size <= 300; ++size) sizes.push_back(size);
  for (const CopyRecipe recipe : all_recipes({0, 4})) {
    bool good = true;
    for (const std::size_t size : sizes) {
      for (std::size_t offset = 0; offset <= 64; ++offset) {
        good = good && ground.holds(recipe, size, offset, (offset * 5 + size) % 65);
      }
    }
    for (std::size_t to = 0; to <= 64; ++to) {
      for (std::size_t from = 0; from <= 64; ++from) {
        good = good && ground.holds(recipe, 900 + to, to, from);
      }
    }
    CHECK_MESSAGE(good, words(recipe));
  }
}

TEST_CASE("every kernel copies the sizes around each power of two exactly") {
  constexpr std::size_t kMost = (std::size_t{4} << 20U) + 1;
  Ground ground(kMost);
  for (const CopyRecipe recipe : all_recipes({0, 64})) {
    bool good = true;
    for (std::size_t power = 256; power <= kMost; power *= 2) {
      for (const std::size_t size : {power - 1, power, power + 1}) {
        good = good && ground.holds(recipe, size, size % 65, power % 63);
      }
    }
    CHECK_MESSAGE(good, words(recipe));
  }
}

TEST_CASE("no kernel reads behind its source") {
  // The heap has a red zone there under AddressSanitizer; elsewhere this only runs.
  for (const CopyRecipe recipe : all_recipes({64})) {
    const std::vector<char> source(8192 + 13, 'x');
    std::vector<char> target(source.size());
    copy_by(recipe, target.data(), source.data(), source.size());
    CHECK(target == source);
  }
}

TEST_CASE("streaming stores are in place for a thread that sees a later release store") {
  for (const CopyRecipe recipe : all_recipes({0})) {
    if (recipe.streaming == 0) continue;
    const std::vector<char> source(65536, 'y');
    std::vector<char> target(source.size(), 'n');
    std::atomic<bool> there{false};
    std::thread reader([&] {
      while (!there.load(std::memory_order_acquire)) std::this_thread::yield();
      CHECK(target == source);
    });
    copy_by(recipe, target.data(), source.data(), source.size());
    there.store(true, std::memory_order_release);
    reader.join();
  }
}

CopyTable sealed(CopyTable table) {
  table.checksum = sum_of(table);
  return table;
}

TEST_CASE("the default table is sound, adopted as it is, and memcpy") {
  CHECK(is_sound(default_copy_table()));
  const CopyTable adopted = adopt_table(default_copy_table());
  for (unsigned i = 0; i < kCopyClasses; ++i) {
    CHECK(adopted.classes[i] == default_copy_table().classes[i]);
    CHECK(adopted.classes[i].whole == CopyRecipe());
  }
}

TEST_CASE("a table is adopted as it is when this processor runs its kernels") {
  CopyTable table;
  table.classes[3].whole = {CopyKernel::kLibc, 4, 1, 64};
  table.classes[14].chunk_bytes = kMostChunk;
  const CopyTable adopted = adopt_table(sealed(table));
  CHECK(adopted.classes[3] == table.classes[3]);
  CHECK(adopted.classes[14] == table.classes[14]);
}

TEST_CASE("a table with one field out of its bounds is not adopted") {
  std::vector<CopyTable> bad(10);
  bad[0].classes[0].whole.kernel = static_cast<CopyKernel>(kCopyKernels);
  bad[1].classes[1].in.unroll = 3;
  bad[2].classes[2].out.unroll = 0;
  bad[3].classes[3].whole.streaming = 2;
  bad[4].classes[4].whole.prefetch_lines = kMostPrefetchLines + 1;
  bad[5].classes[5].chunk_bytes = 4095;
  bad[6].classes[6].chunk_bytes = 2 * kMostChunk;
  bad[7].version = 2;
  bad[8].class_count = kCopyClasses + 1;
  std::memset(bad[9].cpu, 'x', sizeof bad[9].cpu);
  for (const CopyTable& each : bad) {
    CHECK_FALSE(is_sound(sealed(each)));
    CHECK(adopt_table(sealed(each)).checksum == default_copy_table().checksum);
  }
  CopyTable damaged = sealed(CopyTable());
  damaged.classes[0].chunk_bytes = 8192;
  CHECK_FALSE(is_sound(damaged));
}

TEST_CASE("random bytes as a table are not followed into nowhere") {
  const unsigned seed = std::random_device()();
  MESSAGE("seed " << seed);
  std::mt19937 random(seed);
  std::vector<std::byte> source(70000, std::byte{1});
  std::vector<std::byte> target(source.size());
  for (int round = 0; round < 2000; ++round) {
    CopyTable table;
    for (std::size_t i = 0; i < sizeof table; ++i) {
      reinterpret_cast<unsigned char*>(&table)[i] = static_cast<unsigned char>(random());
    }
    if (round % 2 == 0) {  // a hostile peer can count
      table.magic = CopyTable::kMagic;
      table.version = CopyTable::kVersion;
      table.class_count = kCopyClasses;
      table.cpu[63] = 0;
      table.checksum = sum_of(table);
    }
    const CopyTable adopted = adopt_table(table);
    const std::size_t size = random() % source.size();
    copy_bytes(target.data(), source.data(), size, adopted);
    // Even one that nobody has adopted is not followed out of bounds, if the kernel can run.
    CopyRecipe recipe = table.classes[round % kCopyClasses].whole;
    if (static_cast<unsigned>(recipe.kernel) < kCopyKernels && !can_run(recipe.kernel)) continue;
    copy_by(recipe, target.data(), source.data(), size);
    CHECK(std::memcmp(target.data(), source.data(), size) == 0);
  }
}

TEST_CASE("each size belongs to one class") {
  CHECK(class_of(0) == 0);
  CHECK(class_of(4095) == 0);
  CHECK(class_of(4096) == 0);
  CHECK(class_of(8191) == 0);
  CHECK(class_of(8192) == 1);
  CHECK(class_of(std::size_t{64} << 20U) == kCopyClasses - 1);
  CHECK(class_of(SIZE_MAX) == kCopyClasses - 1);
}

TEST_CASE("the processor has a name, ended by zeros") {
  char name[64];
  cpu_model(name);
  CHECK(name[63] == 0);
  CHECK(std::strlen(name) > 0);
}

}  // namespace
}  // namespace libservices::ipc
