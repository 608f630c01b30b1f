// SPDX-License-Identifier: Apache-2.0
//
// Random scripts of calls that programs make, on the kernel's tmpfs and on what the command serves:
// a preloaded program's, and those of two programs, of which one is preloaded and the other one
// goes through the mount. LIBSERVICES_SEED and LIBSERVICES_SCRIPTS choose the first seed and how
// many follow it.
#include "tests/fuse/halves.h"

#include <doctest/doctest.h>
#include <signal.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/differential/comparison.h"
#include "tests/differential/kernel_subject.h"
#include "tests/differential/remote_subject.h"
#include "tests/differential/script.h"
#include "tests/differential/seeds.h"
#include "tests/fuse/why_no_mounts.h"
#include "tests/support/piped_process.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

// A tree's root lies so deep that no script gets out of the mount by "..", which would show it
// other things than its peer sees. Paths are of equal length.
constexpr const char* kRoot = "/1/2/3/4/5/6/7/8/root";

std::string command() { return built_program("src/cli/libservices"); }

enum class Way { kPreloaded, kBoth };

class Service {
 public:
  // Without a mount at the kernel, unless one half goes through it.
  Service(const std::string& spec, Way way, const ScratchDirectory& scratch)
      : run_directory_(scratch.path() + "/run"), mount_(scratch.path() + "/served") {
    std::vector<std::string> words{command(), "serve", "--run-directory", run_directory_,
                                   "--ready", "1",     "--mount",         mount_ + "=" + spec};
    const std::string library = built_program("src/preload/libservices-preload.so");
    REQUIRE(::setenv("LIBSERVICES_PRELOAD", library.c_str(), 1) == 0);
    const char* const rings = std::getenv("LIBSERVICES_TEST_RINGS");
    const bool over_rings = rings != nullptr && *rings == '1';
    if (way == Way::kBoth) {
      words.insert(words.end(), {"--fuse", "-o", over_rings ? "io_uring" : "noio_uring"});
    }
    process_.emplace(std::move(words));
    char byte = 0;
    REQUIRE(process_->receive(&byte, 1));
  }
  ~Service() { CHECK(process_->end(SIGTERM) == 0); }

  const std::string& mount() const { return mount_; }
  // What stands before a program that is preloaded.
  std::vector<std::string> run() const {
    return {command(), "run", "--run-directory", run_directory_, "--"};
  }

 private:
  std::string run_directory_;
  std::string mount_;
  std::optional<PipedProcess> process_;
};

void on_service(const std::string& spec, Way way, const ScratchDirectory& scratch,
                const std::function<void(Subject&)>& work) {
  const Service service(spec, way, scratch);
  const std::string root = service.mount() + kRoot;
  std::vector<std::string> make = service.run();
  make.insert(make.end(), {"/bin/mkdir", "-p", root});
  REQUIRE(PipedProcess(make).end() == 0);
  RemoteSubject preloaded(service.run(), root);
  if (way == Way::kPreloaded) return work(preloaded);
  RemoteSubject mounted({}, root);
  Halves halves(mounted, preloaded);
  work(halves);
}

void compare_scripts(const std::string& kind, Way way) {
  for (const std::string& why : {why_kernel_cannot(), why_no_mounts()}) {
    if (!why.empty()) {
      MESSAGE("SKIPPED: ", why);
      return;
    }
  }
  const WithFresh kernel = [&](const std::function<void(Subject&)>& work) {
    const ScratchDirectory scratch(kTmpfs);
    RemoteSubject tmpfs({}, scratch.directory(std::string("kernel") + kRoot));
    WithoutBoth filtered(tmpfs);
    WithoutDirectoryLinks without(way == Way::kBoth ? static_cast<Subject&>(filtered) : tmpfs);
    work(without);
  };
  const WithFresh ours = [&](const std::function<void(Subject&)>& work) {
    const ScratchDirectory scratch(kTmpfs);
    std::string spec = kind;
    if (kind == "local") spec = "local:" + scratch.directory("data");
    if (kind == "union") {
      spec = "union(local:" + scratch.directory("upper") + ", local:" + scratch.directory("lower") +
             ")";
    }
    on_service(spec, way, scratch, [&](Subject& subject) {
      WithoutDirectoryLinks without(subject);
      work(without);
    });
  };
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 15);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    const std::string found =
        difference(without_set_id(make_script(seed, 400, what_kernel_has())), kernel, ours);
    CHECK_MESSAGE(found.empty(), kind, ", LIBSERVICES_SEED=", seed, ": ", found);
    if (!found.empty()) return;
  }
}

TEST_CASE("a preloaded program gets the answers that it would get from tmpfs") {
  for (const char* kind : {"memory", "local", "union"}) compare_scripts(kind, Way::kPreloaded);
}

TEST_CASE("a preloaded program and one that is not see each other's changes") {
  for (const char* kind : {"memory", "local", "union"}) compare_scripts(kind, Way::kBoth);
}

}  // namespace
}  // namespace libservices::testing
