// SPDX-License-Identifier: Apache-2.0
//
// The stacks over which the tests of `Filesystem` run.
#ifndef LIBSERVICES_TESTS_FILESYSTEM_STACKS_H_
#define LIBSERVICES_TESTS_FILESYSTEM_STACKS_H_

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/filesystem/fixture.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

// A fresh directory on tmpfs. Those of this process go when it ends.
inline std::string fresh_directory() {
  static const ScratchDirectory all(kTmpfs);
  static int count = 0;
  ::umask(0);
  return all.directory(std::to_string(count++));
}

inline bool is_root() { return ::geteuid() == 0; }

struct OverMemory {
  static constexpr const char* kName = "memory";
  static std::unique_ptr<AnyFilesystem> make() {
    return std::make_unique<FilesystemOf<Memory>>(Memory::Config{});
  }
};

// Other users' files: only root can make them on the host.
struct OverLocal {
  static constexpr const char* kName = "local";
  static std::unique_ptr<AnyFilesystem> make() {
    if (!is_root()) return nullptr;
    return std::make_unique<FilesystemOf<Local>>(
        Local::Config{.directory = fresh_directory(), .work = {}, .exclusive = true});
  }
};

struct OverSharedLocal {
  static constexpr const char* kName = "local, changed by others";
  static std::unique_ptr<AnyFilesystem> make() {
    if (!is_root()) return nullptr;
    return std::make_unique<FilesystemOf<Local>>(
        Local::Config{.directory = fresh_directory(), .work = {}, .most_descriptors = 16});
  }
};

struct OverUnionOfMemory {
  static constexpr const char* kName = "union of memory";
  static std::unique_ptr<AnyFilesystem> make() {
    using Stack = Union<Memory, Memory>;
    Stack::Config config;
    config.lowers.resize(2);
    return std::make_unique<FilesystemOf<Stack>>(std::move(config));
  }
};

struct OverUnionOfLocal {
  static constexpr const char* kName = "union of local";
  static std::unique_ptr<AnyFilesystem> make() {
    if (!is_root()) return nullptr;
    using Stack = Union<Local, Local>;
    Stack::Config config;
    config.upper.directory = fresh_directory();
    config.lowers.push_back({.directory = fresh_directory(), .work = {}});
    config.lowers.push_back({.directory = fresh_directory(), .work = {}});
    return std::make_unique<FilesystemOf<Stack>>(std::move(config));
  }
};

}  // namespace libservices::testing

TYPE_TO_STRING_AS("memory", libservices::testing::OverMemory);
TYPE_TO_STRING_AS("local", libservices::testing::OverLocal);
TYPE_TO_STRING_AS("local, changed by others", libservices::testing::OverSharedLocal);
TYPE_TO_STRING_AS("union of memory", libservices::testing::OverUnionOfMemory);
TYPE_TO_STRING_AS("union of local", libservices::testing::OverUnionOfLocal);

#define LIBSERVICES_OVER_EVERY_STACK(test_case)                             \
  TEST_CASE_TEMPLATE_INVOKE(test_case, ::libservices::testing::OverMemory, \
                            ::libservices::testing::OverLocal,              \
                            ::libservices::testing::OverSharedLocal,        \
                            ::libservices::testing::OverUnionOfMemory,      \
                            ::libservices::testing::OverUnionOfLocal)

#endif  // LIBSERVICES_TESTS_FILESYSTEM_STACKS_H_
