// SPDX-License-Identifier: Apache-2.0
//
// The contract through the kernel's mount: a Local on a directory that another process serves keeps
// it as one on a disk does. Each case has a service and a mount of its own, made and ended by the
// command; a descriptor that anybody forgot would keep the mount busy.
#include "libservices/testing/conformance.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "services/local/local.h"
#include "tests/fuse/why_no_mounts.h"
#include "tests/support/piped_process.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

// The command with these words, to its end; its exit status.
inline int run_libservices(std::vector<std::string> words) {
  words.insert(words.begin(), built_program("src/cli/libservices"));
  return PipedProcess(std::move(words)).end();
}

// A spec at a path, while this object is there.
class MountedSpec {
 public:
  MountedSpec() = default;
  ~MountedSpec() {
    if (path_.empty()) return;
    const bool ended = run_libservices({"umount", path_}) == 0;
    CHECK_MESSAGE(ended, "the mount is still used");
    if (!ended) (void)run_libservices({"umount", "--lazy", path_});
  }
  MountedSpec(const MountedSpec&) = delete;
  MountedSpec& operator=(const MountedSpec&) = delete;

  // The directory is one in the mount, as its `work` is, which has to be on the same volume.
  Local::Config at(const std::string& path, const std::string& spec, const std::string& options) {
    REQUIRE(run_libservices({"mount", spec, path, "-o", options}) == 0);
    path_ = path;
    const std::string data = path + "/data";
    REQUIRE((::mkdir(data.c_str(), 0755) == 0 || errno == EEXIST));
    return {.directory = data, .work = {}};
  }

 private:
  std::string path_;
};

struct MountedLocalStack {
  using Service = Local;
  static constexpr const char* kName = "local over a mount of local";
  Local::Config config() {
    return mounted.at(scratch.directory("mnt"), "local:" + scratch.directory("data"), "rw");
  }
  ScratchDirectory scratch;
  MountedSpec mounted;
};

struct MountedExclusiveStack {
  using Service = Local;
  static constexpr const char* kName = "local over a mount of local(exclusive), without passthrough";
  Local::Config config() {
    return mounted.at(scratch.directory("mnt"),
                      "local:" + scratch.directory("data") + "(exclusive=on)", "nopassthrough");
  }
  ScratchDirectory scratch;
  MountedSpec mounted;
};

struct MountedWritebackStack {
  using Service = Local;
  static constexpr const char* kName = "local over a mount of memory, with writeback";
  Local::Config config() { return mounted.at(scratch.directory("mnt"), "memory", "writeback"); }
  ScratchDirectory scratch;
  MountedSpec mounted;
};

struct MountedUnionStack {
  using Service = Local;
  static constexpr const char* kName = "local over a mount of union(local, local), all in the lower";
  static constexpr bool kSeeded = true;
  Local::Config config() {
    const std::string lower = scratch.directory("lower");
    Local maker({.directory = scratch.directory("lower/data"), .work = {}});
    REQUIRE(maker.start().ok());
    seed(maker);
    REQUIRE(maker.stop().ok());
    return mounted.at(scratch.directory("mnt"),
                      "union(local:" + scratch.directory("upper") + ", local:" + lower + ")", "rw");
  }
  ScratchDirectory scratch;
  MountedSpec mounted;
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::MountedLocalStack);
LIBSERVICES_CONFORMANCE(libservices::testing::MountedExclusiveStack);
LIBSERVICES_CONFORMANCE(libservices::testing::MountedWritebackStack);
LIBSERVICES_CONFORMANCE(libservices::testing::MountedUnionStack);

int main(int argc, char** argv) {
  if (const std::string why = libservices::testing::why_no_mounts(); !why.empty()) {
    std::printf("SKIPPED: %s\n", why.c_str());
    return 0;
  }
  return doctest::Context(argc, argv).run();
}
