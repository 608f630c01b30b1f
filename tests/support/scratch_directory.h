// SPDX-License-Identifier: Apache-2.0
//
// A directory for one test, gone when the test is.
#ifndef LIBSERVICES_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_
#define LIBSERVICES_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace libservices::testing {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* base = getenv("TEST_TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/libservices-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp " + path_);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  // The path of a directory of that name in it, made if it is not there.
  std::string directory(const std::string& name) const {
    const std::string path = path_ + "/" + name;
    std::filesystem::create_directories(path);
    return path;
  }

 private:
  std::string path_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_SUPPORT_SCRATCH_DIRECTORY_H_
