// SPDX-License-Identifier: Apache-2.0
//
// The copy table: for each class of sizes, how this processor copies best. The tuner measures it
// (ipc/tuner.h), the service hands it to its clients, copy_bytes() and the pipeline follow it.
//
// Where nothing was measured default_copy_table() is used, which is sound on any processor. Fixed
// layout, so that a table may lie in memory that two processes map.
//
// WARNING: a table from a file or from shared memory is only bytes. Take it with adopt_table(),
// which copies it, forces every field into its bounds and drops what this processor does not have.
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_COPY_TABLE_H_
#define LIBSERVICES_IPC_COPY_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace libservices::ipc {

enum class CopyKernel : std::uint8_t { kLibc, kRepMovsb, kSse2, kAvx2, kAvx512 };
inline constexpr unsigned kCopyKernels = 5;

// One way to copy. Only the vector kernels read more than `kernel`.
struct CopyRecipe {
  CopyKernel kernel = CopyKernel::kLibc;
  std::uint8_t unroll = 1;          // vectors in each turn of the loop: 1, 2, 4 or 8
  std::uint8_t streaming = 0;       // 1: non-temporal stores, which leave the caches as they are
  std::uint8_t prefetch_lines = 0;  // how far ahead the source is fetched, in lines of 64 bytes

  bool operator==(const CopyRecipe&) const = default;
};

// From 2^(12 + i) bytes up to the next class, that is class i; the last one has no upper bound.
struct CopyClass {
  CopyRecipe whole;               // one copy, by one thread
  CopyRecipe in;                  // the sending half of a pipeline: the source may be anywhere
  CopyRecipe out;                 // its receiving half: the source was just written by another core
  std::uint32_t chunk_bytes = 0;  // how much the pipeline hands over at once; 0: everything

  bool operator==(const CopyClass&) const = default;
};

inline constexpr std::size_t kSmallestTuned = 4096;  // what is shorter is libc's
inline constexpr unsigned kSmallestTunedLog2 = 12;
inline constexpr unsigned kCopyClasses = 15;  // 4 KiB to 64 MiB
inline constexpr std::uint32_t kMostPrefetchLines = 64;
inline constexpr std::uint32_t kLeastChunk = 4096;
inline constexpr std::uint32_t kMostChunk = 1U << 20U;  // a power of two, as every chunk size is

struct CopyTable {
  static constexpr std::uint32_t kMagic = 0x4c42'5354;  // "TSBL" in memory
  static constexpr std::uint16_t kVersion = 1;

  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  std::uint16_t class_count = kCopyClasses;
  char cpu[64] = {};  // cpu_model() where it was measured, ended by 0; empty: not measured
  CopyClass classes[kCopyClasses] = {};
  std::uint64_t checksum = 0;  // sum_of() this table
};
// CopyTable() itself is libc's memcpy throughout, and whole.
static_assert(std::is_trivially_copyable_v<CopyTable> && std::is_standard_layout_v<CopyTable>);
static_assert(sizeof(CopyRecipe) == 4 && sizeof(CopyClass) == 16 && sizeof(CopyTable) == 320);

// FNV-1a over everything before the checksum: against damage, not against forgery.
inline std::uint64_t sum_of(const CopyTable& table) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&table);
  std::uint64_t sum = 0xcbf29ce484222325U;
  for (std::size_t i = 0; i < offsetof(CopyTable, checksum); ++i) {
    sum = (sum ^ bytes[i]) * 0x100000001b3U;
  }
  return sum;
}

// For a processor that nobody has measured: libc's memcpy, and chunks that were good where it was.
inline CopyTable default_copy_table() {
  constexpr unsigned kFirst = 4;   // 64 KiB: from there on a pipeline gained in every measurement
  constexpr unsigned kLarger = 6;  // 256 KiB
  CopyTable table;
  for (unsigned i = kFirst; i < kCopyClasses; ++i) {
    table.classes[i].chunk_bytes = i < kLarger ? 16384 : 32768;
  }
  table.checksum = sum_of(table);
  return table;
}

inline bool is_sound(CopyRecipe recipe) {
  return static_cast<unsigned>(recipe.kernel) < kCopyKernels && recipe.unroll >= 1 &&
         recipe.unroll <= 8 && (recipe.unroll & (recipe.unroll - 1U)) == 0 &&
         recipe.streaming <= 1 && recipe.prefetch_lines <= kMostPrefetchLines;
}
inline bool is_sound_chunk(std::uint32_t bytes) {
  return bytes == 0 || (bytes >= kLeastChunk && bytes <= kMostChunk && (bytes & (bytes - 1)) == 0);
}
inline bool is_sound(const CopyTable& table) {
  if (table.magic != CopyTable::kMagic || table.version != CopyTable::kVersion ||
      table.class_count != kCopyClasses || table.checksum != sum_of(table) ||
      table.cpu[sizeof table.cpu - 1] != 0) {
    return false;
  }
  for (const CopyClass& each : table.classes) {
    if (!is_sound(each.whole) || !is_sound(each.in) || !is_sound(each.out) ||
        !is_sound_chunk(each.chunk_bytes)) {
      return false;
    }
  }
  return true;
}

inline unsigned class_of(std::size_t size) {
  if (size < kSmallestTuned) return 0;
  const unsigned log2 = 63U - static_cast<unsigned>(__builtin_clzll(size));
  return log2 - kSmallestTunedLog2 < kCopyClasses ? log2 - kSmallestTunedLog2 : kCopyClasses - 1;
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_TABLE_H_
