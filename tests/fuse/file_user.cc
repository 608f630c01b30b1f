// SPDX-License-Identifier: Apache-2.0
//
// Does what it is told with the files f0, f1, … of a directory: usage `file_user DIRECTORY`.
#include "tests/fuse/file_user.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <vector>

#include "tests/support/piped_process.h"

namespace {

using libservices::testing::FileStep;

// 0, 1 when what is mapped is not what it should be, or -errno.
long map(int file, const FileStep& step) {
  struct stat seen {};  // what has grown past the mount the kernel maps when it has been asked for
  if (::fstat(file, &seen) != 0) return -errno;
  const std::uint64_t page = step.offset & ~std::uint64_t{4095};
  const std::size_t size = step.offset - page + step.length;
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                              static_cast<off_t>(page));
  if (mapped == MAP_FAILED) return -errno;
  char* const start = static_cast<char*>(mapped) + (step.offset - page);
  const char byte = static_cast<char>(step.byte);
  long result = 0;
  if (step.call == FileStep::kMapCompare) {
    const bool same =
        std::all_of(start, start + step.length, [byte](char there) { return there == byte; });
    result = same ? 0 : 1;
  } else {
    std::fill_n(start, step.length, byte);
    if (::msync(mapped, size, MS_SYNC) != 0) result = -errno;
  }
  ::munmap(mapped, size);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::map<std::uint32_t, int> files;
  FileStep step;
  while (libservices::testing::receive_all(STDIN_FILENO, &step, sizeof step)) {
    int& file = files.try_emplace(step.file, -1).first->second;
    const auto offset = static_cast<off_t>(step.offset);
    long result = 0;
    std::string bytes;
    switch (step.call) {
      case FileStep::kReopen:
        if (file >= 0) ::close(file);
        file = ::open((std::string(argv[1]) + "/f" + std::to_string(step.file)).c_str(), O_RDWR);
        result = file < 0 ? -errno : 0;
        break;
      case FileStep::kWrite:
        bytes.assign(step.length, static_cast<char>(step.byte));
        result = ::pwrite(file, bytes.data(), bytes.size(), offset);
        bytes.clear();
        break;
      case FileStep::kTruncate:
        result = ::ftruncate(file, offset);
        break;
      case FileStep::kMapWrite:
      case FileStep::kMapCompare:
        result = map(file, step);
        break;
      case FileStep::kPunch:
        result = ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                             static_cast<off_t>(step.length));
        break;
      case FileStep::kRead: {
        struct stat seen {};
        bytes.resize(step.length);
        result = ::fstat(file, &seen) == 0 ? ::pread(file, bytes.data(), bytes.size(), offset) : -1;
        bytes.resize(result < 0 ? 0 : static_cast<std::size_t>(result));
        if (result >= 0 && result != seen.st_size - offset) result = -2;  // the size is another one
        if (result == -2) bytes.clear();
        break;
      }
    }
    if (!libservices::testing::send_all(STDOUT_FILENO, &result, sizeof result) ||
        !libservices::testing::send_all(STDOUT_FILENO, bytes.data(), bytes.size())) {
      return 1;
    }
  }
  return 0;
}
