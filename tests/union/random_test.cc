// SPDX-License-Identifier: Apache-2.0
//
// Random scripts over random layers, on unions and on a copy of what the layers show.
// LIBSERVICES_SEED and LIBSERVICES_SCRIPTS choose the first seed and how many follow it,
// LIBSERVICES_EXPECT=name,name turns on switches of expect.h.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "tests/differential/comparison.h"
#include "tests/differential/kernel_subject.h"
#include "tests/differential/seeds.h"
#include "tests/union/lockstep.h"
#include "tests/union/script.h"
#include "tests/union/subjects.h"
#include "tests/union/volume.h"

namespace libservices::testing {
namespace {

struct Run {
  Implementation first;
  Course course;
  Expect expect;
  VolumeKind volume;
  std::uint64_t scripts;  // where LIBSERVICES_SCRIPTS does not say
};

void skip(const std::string& why) { std::printf("SKIPPED: %s\n", why.c_str()); }

void run_scripts_on(const Run& run, const std::string& tmpfs) {
  const bool needs_overlayfs =
      run.first == Implementation::kOverlayfs || run.course == Course::kSwitches;
  const std::string volume = run.volume == VolumeKind::kTmpfs ? tmpfs : mount_ext4(tmpfs);
  if (volume.empty()) return skip("no ext4 on a loop device");
  if (const std::string why = why_overlayfs_cannot(volume); needs_overlayfs && !why.empty()) {
    return skip(why);
  }
  const ScriptOptions options = what_kernel_has();
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", run.scripts);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    std::vector<Operation> script;
    {
      Model trial(tmpfs);
      script = make_union_script(seed, run.course, run.expect, options, trial);
    }
    const std::string found = shortest_difference(
        std::move(script), [&](const std::vector<Operation>& script, std::size_t& at) {
          Model model(tmpfs);
          OnBranches branches(volume, run.first, run.expect);
          return first_difference(script, model, branches, run.expect, at);
        });
    CHECK_MESSAGE(found.empty(), "LIBSERVICES_SEED=", seed, ": ", found);
    if (!found.empty()) return;
  }
}

void run_scripts(const Run& run) {
  if (const std::string why = why_kernel_cannot(); !why.empty()) return skip(why);
  const std::string why =
      on_private_mounts([&](const std::string& tmpfs) { run_scripts_on(run, tmpfs); });
  if (!why.empty()) skip(why);
}

// Overlayfs does not remove a directory that holds whiteouts of these kinds.
Expect with_overlayfs(Expect expect, VolumeKind volume = VolumeKind::kTmpfs) {
  expect.attribute_whiteouts = false;
  expect.stray_whiteouts = false;
  // Each has an index of its own, and overlayfs refuses files that are in part in a lower.
  expect.hard_links_survive = false;
  expect.files_in_part = false;
  expect.numbers_listed = false;
  expect.directory_times = volume != VolumeKind::kExt4;
  return expect;
}

TEST_CASE("overlayfs shows what the copy of the merged tree shows") {
  run_scripts({Implementation::kOverlayfs, Course::kLooks, kEverything, VolumeKind::kTmpfs, 30});
}

TEST_CASE("overlayfs does what the copy of the merged tree does") {
  run_scripts({Implementation::kOverlayfs, Course::kRestarts, with_overlayfs(kEverything),
               VolumeKind::kTmpfs, 20});
}

TEST_CASE("the union does what the copy of the merged tree does") {
  run_scripts({Implementation::kOurs, Course::kRestarts, kEverything, VolumeKind::kTmpfs, 40});
}

TEST_CASE("overlayfs goes on where the union was, and the union where overlayfs was") {
  run_scripts({Implementation::kOurs, Course::kSwitches, with_overlayfs(kEverything),
               VolumeKind::kTmpfs, 20});
}

TEST_CASE("the same on ext4, where numbers of what is gone come back") {
  run_scripts({Implementation::kOurs, Course::kSwitches,
               with_overlayfs(kEverything, VolumeKind::kExt4), VolumeKind::kExt4, 20});
}

}  // namespace
}  // namespace libservices::testing
