// SPDX-License-Identifier: Apache-2.0
#include "ipc/copy_kernels.h"

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#if defined(__clang__)
using _Bool = bool;  // libc's header takes C's name, which g++ knows
#endif
#include <sys/platform/x86.h>
#endif

namespace libservices::ipc {

#if defined(__x86_64__)
namespace {

constexpr std::size_t kLine = 64;

// Copies `turns` times sizeof...(kPart) vectors. A prefetch past the end of the source is no fault.
// The three differ in their vector alone, but a target attribute cannot depend on a template.
using Loop = void (*)(char* to, const char* from, std::size_t turns, std::size_t ahead);

template <std::size_t kTurn>
void prefetch(const char* from) {
  for (std::size_t i = 0; i < kTurn; i += kLine) _mm_prefetch(from + i, _MM_HINT_NTA);
}

template <bool kStreaming, bool kAhead, std::size_t... kPart>
void sse2_loop(char* to, const char* from, std::size_t turns, std::size_t ahead) {
  constexpr std::size_t kVector = 16;
  constexpr std::size_t kTurn = kVector * sizeof...(kPart);
  for (; turns != 0; --turns, to += kTurn, from += kTurn) {
    if constexpr (kAhead) prefetch<kTurn>(from + ahead);
    const __m128i read[] = {
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + kPart * kVector))...};
    auto* const into = reinterpret_cast<__m128i*>(to);
    if constexpr (kStreaming) {
      (_mm_stream_si128(into + kPart, read[kPart]), ...);
    } else {
      (_mm_store_si128(into + kPart, read[kPart]), ...);
    }
  }
}

template <bool kStreaming, bool kAhead, std::size_t... kPart>
[[gnu::target("avx2")]] void avx2_loop(char* to, const char* from, std::size_t turns,
                                       std::size_t ahead) {
  constexpr std::size_t kVector = 32;
  constexpr std::size_t kTurn = kVector * sizeof...(kPart);
  for (; turns != 0; --turns, to += kTurn, from += kTurn) {
    if constexpr (kAhead) prefetch<kTurn>(from + ahead);
    const __m256i read[] = {
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + kPart * kVector))...};
    auto* const into = reinterpret_cast<__m256i*>(to);
    if constexpr (kStreaming) {
      (_mm256_stream_si256(into + kPart, read[kPart]), ...);
    } else {
      (_mm256_store_si256(into + kPart, read[kPart]), ...);
    }
  }
}

template <bool kStreaming, bool kAhead, std::size_t... kPart>
[[gnu::target("avx512f")]] void avx512_loop(char* to, const char* from, std::size_t turns,
                                            std::size_t ahead) {
  constexpr std::size_t kVector = 64;
  constexpr std::size_t kTurn = kVector * sizeof...(kPart);
  for (; turns != 0; --turns, to += kTurn, from += kTurn) {
    if constexpr (kAhead) prefetch<kTurn>(from + ahead);
    const __m512i read[] = {_mm512_loadu_si512(from + kPart * kVector)...};
    auto* const into = reinterpret_cast<__m512i*>(to);
    if constexpr (kStreaming) {
      (_mm512_stream_si512(into + kPart, read[kPart]), ...);
    } else {
      (_mm512_store_si512(into + kPart, read[kPart]), ...);
    }
  }
}

template <bool kStreaming, bool kAhead, std::size_t... kPart>
constexpr Loop loop_for(unsigned kernel, std::index_sequence<kPart...>) {
  constexpr Loop kLoops[] = {sse2_loop<kStreaming, kAhead, kPart...>,
                             avx2_loop<kStreaming, kAhead, kPart...>,
                             avx512_loop<kStreaming, kAhead, kPart...>};
  return kLoops[kernel];
}

constexpr unsigned kUnrolls = 4;  // 1, 2, 4, 8
constexpr unsigned kVectorKernels = 3;
constexpr unsigned kFirstVectorKernel = static_cast<unsigned>(CopyKernel::kSse2);

struct Loops {
  Loop loops[kVectorKernels][2][2][kUnrolls];  // [kernel][streaming][ahead][log2 of unroll]
};
template <std::size_t... kUnrollLog2>
constexpr Loops all_loops(std::index_sequence<kUnrollLog2...>) {
  Loops all{};
  for (unsigned kernel = 0; kernel < kVectorKernels; ++kernel) {
    ((all.loops[kernel][0][0][kUnrollLog2] =
          loop_for<false, false>(kernel, std::make_index_sequence<1U << kUnrollLog2>())),
     ...);
    ((all.loops[kernel][0][1][kUnrollLog2] =
          loop_for<false, true>(kernel, std::make_index_sequence<1U << kUnrollLog2>())),
     ...);
    ((all.loops[kernel][1][0][kUnrollLog2] =
          loop_for<true, false>(kernel, std::make_index_sequence<1U << kUnrollLog2>())),
     ...);
    ((all.loops[kernel][1][1][kUnrollLog2] =
          loop_for<true, true>(kernel, std::make_index_sequence<1U << kUnrollLog2>())),
     ...);
  }
  return all;
}
constexpr Loops kLoops = all_loops(std::make_index_sequence<kUnrolls>());

void copy_by_vectors(CopyRecipe recipe, char* to, const char* from, std::size_t size) {
  const unsigned kernel = static_cast<unsigned>(recipe.kernel) - kFirstVectorKernel;
  const std::size_t turn = (std::size_t{16} << kernel) * recipe.unroll;
  const std::size_t head = -reinterpret_cast<std::uintptr_t>(to) % kLine;
  if (size < head + turn) {
    std::memcpy(to, from, size);
    return;
  }
  std::memcpy(to, from, head);
  const std::size_t turns = (size - head) / turn;
  const std::size_t ahead = recipe.prefetch_lines * kLine;
  const auto log2 = static_cast<unsigned>(__builtin_ctz(recipe.unroll));
  kLoops.loops[kernel][recipe.streaming][ahead != 0 ? 1 : 0][log2](to + head, from + head, turns,
                                                                   ahead);
  const std::size_t done = head + turns * turn;
  std::memcpy(to + done, from + done, size - done);
  if (recipe.streaming != 0) _mm_sfence();
}

}  // namespace

// As libc knows it: a question to the processor takes some 7 us in a virtual machine, and the
// compiler's own way asks a dozen at the start of every program.
bool can_run(CopyKernel kernel) {
  switch (kernel) {
    case CopyKernel::kLibc:
    case CopyKernel::kRepMovsb:
    case CopyKernel::kSse2:
      return true;
    case CopyKernel::kAvx2:
      return CPU_FEATURE_ACTIVE(AVX2);
    case CopyKernel::kAvx512:
      return CPU_FEATURE_ACTIVE(AVX512F);
  }
  return false;
}

void copy_by(CopyRecipe recipe, void* to, const void* from, std::size_t size) {
  if (recipe.kernel == CopyKernel::kLibc || !is_sound(recipe)) {
    std::memcpy(to, from, size);
  } else if (recipe.kernel == CopyKernel::kRepMovsb) {
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  } else {
    copy_by_vectors(recipe, static_cast<char*>(to), static_cast<const char*>(from), size);
  }
}

void cpu_model(char (&text)[sizeof CopyTable::cpu]) {
  std::uint32_t words[12] = {};
  std::uint32_t most = 0;
  std::uint32_t vendor[3] = {};
  std::uint32_t signature = 0;
  std::uint32_t ignored = 0;
  __cpuid(0, most, vendor[0], vendor[2], vendor[1]);
  __cpuid(1, signature, ignored, ignored, ignored);
  __cpuid(0x80000000U, most, ignored, ignored, ignored);
  for (std::uint32_t leaf = 0; leaf < 3 && most >= 0x80000004U; ++leaf) {
    std::uint32_t* part = words + 4U * leaf;
    __cpuid(0x80000002U + leaf, part[0], part[1], part[2], part[3]);
  }
  char* end = text;
  const auto append = [&](const void* bytes, std::size_t size) {
    const char* from = static_cast<const char*>(bytes);
    for (; size != 0 && *from != 0 && end < text + sizeof text - 1; --size) *end++ = *from++;
  };
  append(vendor, sizeof vendor);
  append(" ", 1);
  for (int shift = 28; shift >= 0; shift -= 4)
    append(&"0123456789abcdef"[signature >> shift & 15U], 1);
  append(" ", 1);
  append(words, sizeof words);
  while (end > text && end[-1] == ' ') --end;
  std::memset(end, 0, static_cast<std::size_t>(text + sizeof text - end));
}

#else

bool can_run(CopyKernel kernel) { return kernel == CopyKernel::kLibc; }

void copy_by(CopyRecipe, void* to, const void* from, std::size_t size) {
  std::memcpy(to, from, size);
}

void cpu_model(char (&text)[sizeof CopyTable::cpu]) {
  std::memset(text, 0, sizeof text);
  std::memcpy(text, "not x86-64", 10);
}

#endif

CopyTable adopt_table(const CopyTable& untrusted) {
  CopyTable table;
  std::memcpy(static_cast<void*>(&table), &untrusted, sizeof table);
  asm volatile("" : : "r"(&table) : "memory");  // what is checked is the copy
  if (!is_sound(table)) return default_copy_table();
  for (CopyClass& each : table.classes) {
    for (CopyRecipe* recipe : {&each.whole, &each.in, &each.out}) {
      if (!can_run(recipe->kernel)) *recipe = {};
    }
  }
  table.checksum = sum_of(table);
  return table;
}

}  // namespace libservices::ipc
