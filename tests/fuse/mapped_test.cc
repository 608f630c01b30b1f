// SPDX-License-Identifier: Apache-2.0
//
// Random reads, writes, truncations and mappings of few files, through the mount and past it in
// turns, against plain strings. What was written through a mapping counts from msync on.
// LIBSERVICES_SEED and LIBSERVICES_SCRIPTS choose the first seed and how many follow it.
#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <utility>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/differential/seeds.h"
#include "tests/fuse/mapped_files.h"
#include "tests/fuse/mounted.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

template <class Stack>
void run_on(typename Stack::Config config, bool passthrough, std::uint64_t seed) {
  FilesystemOf<Stack> fs(std::move(config));
  REQUIRE(fs.start().ok());
  {
    Mounted mounted(fs, {.passthrough = passthrough});
    const std::string wrong = MappedFiles(fs, mounted.path(), seed).run();
    CHECK_MESSAGE(wrong.empty(), "LIBSERVICES_SEED=", seed, ": ", wrong);
  }
  REQUIRE(fs.stop().ok());
}

struct OnMemory {
  static void run(bool passthrough, std::uint64_t seed) { run_on<Memory>({}, passthrough, seed); }
};
struct OnLocal {
  static void run(bool passthrough, std::uint64_t seed) {
    const ScratchDirectory scratch;
    Local::Config config;
    config.directory = scratch.directory("root");
    config.exclusive = true;
    run_on<Local>(std::move(config), passthrough, seed);
  }
};
// Files that are in a lower, and come up in parts.
struct OnUnion {
  static void run(bool passthrough, std::uint64_t seed) {
    const ScratchDirectory scratch;
    for (std::uint32_t i = 0; i < MappedFiles::kFiles; ++i) {
      std::ofstream(scratch.directory("lower") + MappedFiles::name_of(i))
          << std::string(100000 * (i + 1) - 7, static_cast<char>('A' + i));
    }
    Union<Local, Local>::Config config;
    config.upper.directory = scratch.directory("upper");
    config.upper.exclusive = true;
    config.lowers.resize(1);
    config.lowers[0].directory = scratch.directory("lower");
    config.lowers[0].exclusive = true;
    config.range_bytes = 16384;
    run_on<Union<Local, Local>>(std::move(config), passthrough, seed);
  }
};

TEST_CASE_TEMPLATE("mapped and unmapped, through the mount and past it, a file is one", Stack,
                   OnMemory, OnLocal, OnUnion) {
  if (const std::string why = why_no_mounts(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 8);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    Stack::run(seed % 2 == 0, seed);
  }
}

}  // namespace
}  // namespace libservices::testing

TYPE_TO_STRING_AS("memory", libservices::testing::OnMemory);
TYPE_TO_STRING_AS("local", libservices::testing::OnLocal);
TYPE_TO_STRING_AS("union", libservices::testing::OnUnion);
