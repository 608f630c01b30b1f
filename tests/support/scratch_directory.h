// SPDX-License-Identifier: Apache-2.0
//
// A directory for one test, gone when the test is.
#ifndef LIBSERVICES_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_
#define LIBSERVICES_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace libservices::testing {

// Where a tmpfs is, for tests that are about its files or make many of them.
inline constexpr const char* kTmpfs = "/dev/shm";

class ScratchDirectory {
 public:
  // Where the test keeps its files.
  ScratchDirectory() : ScratchDirectory(test_base()) {}
  // In `base`. Like all directories here it is one that other users may enter, whatever the umask.
  explicit ScratchDirectory(const std::string& base) : path_(base + "/libservices-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr || chmod(path_.c_str(), 0755) != 0) {
      throw std::runtime_error("mkdtemp " + path_);
    }
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  // The path of a directory of that name in it, made if it is not there.
  std::string directory(const std::string& name) const {
    const std::string path = path_ + "/" + name;
    if (std::filesystem::create_directories(path) && chmod(path.c_str(), 0755) != 0) {
      throw std::runtime_error("chmod " + path);
    }
    return path;
  }

 private:
  static std::string test_base() {
    const char* const base = getenv("TEST_TMPDIR");
    return base != nullptr ? base : "/tmp";
  }

  std::string path_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_
