// SPDX-License-Identifier: Apache-2.0
//
// Random scripts of calls on the kernel's tmpfs and on filesystems through their mount; and through
// the mount and past it in turns, as preloaded programs and others do on one instance.
// LIBSERVICES_SEED and LIBSERVICES_SCRIPTS choose the first seed and how many follow it.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/differential/comparison.h"
#include "tests/differential/filesystem_subject.h"
#include "tests/differential/kernel_subject.h"
#include "tests/differential/script.h"
#include "tests/differential/seeds.h"
#include "tests/fuse/halves.h"
#include "tests/fuse/mounted.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

enum class Way { kMount, kBoth, kPassthrough };

template <class Stack>
void run_on(typename Stack::Config config, Way way, const std::function<void(Subject&)>& work) {
  FilesystemOf<Stack> fs(std::move(config));
  const absl::Status started = fs.start();
  REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
  {
    Mounted mounted(fs, {.passthrough = way == Way::kPassthrough});
    on_directory(mounted.path(), [&](Subject& mount) {
      if (way == Way::kMount) return work(mount);
      FilesystemSubject past(fs);
      Halves halves(mount, past);
      work(halves);
    });
  }
  CHECK(fs.counters().open_files == 0);
  REQUIRE(fs.stop().ok());
}

struct OverMemory {
  static constexpr const char* kName = "memory";
  static void with_fresh(Way way, const std::function<void(Subject&)>& work) {
    run_on<Memory>({}, way, work);
  }
};

template <bool kExclusive>
struct OverLocal {
  static constexpr const char* kName = kExclusive ? "exclusive local" : "shared local";
  static void with_fresh(Way way, const std::function<void(Subject&)>& work) {
    const ScratchDirectory scratch;
    Local::Config config;
    config.directory = scratch.directory("root");
    config.work = scratch.directory("work");
    config.exclusive = kExclusive;
    run_on<Local>(config, way, work);
  }
};

struct OverUnion {
  static constexpr const char* kName = "union of local";
  static void with_fresh(Way way, const std::function<void(Subject&)>& work) {
    const ScratchDirectory scratch;
    Union<Local, Local>::Config config;
    config.upper.directory = scratch.directory("root");
    config.upper.work = scratch.directory("work");
    config.upper.exclusive = true;
    config.lowers.resize(1);
    config.lowers[0].directory = scratch.directory("lower");
    config.lowers[0].exclusive = true;
    config.durable = false;
    run_on<Union<Local, Local>>(std::move(config), way, work);
  }
};

struct OverUnionOfMemory {
  static constexpr const char* kName = "union of memory";
  static void with_fresh(Way way, const std::function<void(Subject&)>& work) {
    Union<Memory, Memory>::Config config;
    config.lowers.resize(1);
    run_on<Union<Memory, Memory>>(std::move(config), way, work);
  }
};

template <class Stack>
void compare_scripts(Way way) {
  for (const std::string& why : {why_kernel_cannot(), why_no_mounts()}) {
    if (!why.empty()) {
      MESSAGE("SKIPPED: ", why);
      return;
    }
  }
  const WithFresh kernel = [&](const std::function<void(Subject&)>& work) {
    on_fresh_tmpfs([&](Subject& tmpfs) {
      WithoutBoth filtered(tmpfs);
      WithoutDirectoryLinks without(way == Way::kMount ? tmpfs : static_cast<Subject&>(filtered));
      work(without);
    });
  };
  const WithFresh ours = [&](const std::function<void(Subject&)>& work) {
    Stack::with_fresh(way, [&](Subject& subject) {
      WithoutDirectoryLinks without(subject);
      work(without);
    });
  };
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 40);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    std::vector<Operation> script = make_script(seed, 400, what_kernel_has());
    if (way == Way::kPassthrough) script = without_set_id(std::move(script));
    const std::string found = difference(std::move(script), kernel, ours);
    CHECK_MESSAGE(found.empty(), Stack::kName, ", LIBSERVICES_SEED=", seed, ": ", found);
    if (!found.empty()) return;
  }
}

TEST_CASE_TEMPLATE("a mount answers every script as tmpfs does", Stack, OverMemory,
                   OverLocal<false>, OverLocal<true>, OverUnion) {
  compare_scripts<Stack>(Way::kMount);
}

TEST_CASE_TEMPLATE("calls through the mount and past it see each other's changes", Stack,
                   OverMemory, OverLocal<true>, OverUnion) {
  compare_scripts<Stack>(Way::kBoth);
}

TEST_CASE_TEMPLATE("so they do when the kernel goes to the stack's files itself", Stack, OverMemory,
                   OverLocal<true>, OverUnion, OverUnionOfMemory) {
  compare_scripts<Stack>(Way::kPassthrough);
}

}  // namespace
}  // namespace libservices::testing

TYPE_TO_STRING_AS("memory", libservices::testing::OverMemory);
TYPE_TO_STRING_AS("shared local", libservices::testing::OverLocal<false>);
TYPE_TO_STRING_AS("exclusive local", libservices::testing::OverLocal<true>);
TYPE_TO_STRING_AS("union of local", libservices::testing::OverUnion);
TYPE_TO_STRING_AS("union of memory", libservices::testing::OverUnionOfMemory);
