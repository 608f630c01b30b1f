// SPDX-License-Identifier: Apache-2.0
#include "src/host/mount_table_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "src/host/descriptor.h"
#include "tests/support/scratch_directory.h"

namespace libservices::host {
namespace {

class MountTableTest {
 protected:
  MountTableTest() {
    file_ = std::make_unique<MountTableFile>(directory_);
    REQUIRE(file_->create({.placeholder_device = 77}).ok());
  }

  protocol::MountMatch find(std::string_view path) const {
    return protocol::find_mount(*file_->table(), path.data(), static_cast<unsigned>(path.size()));
  }

  const testing::ScratchDirectory scratch_;
  const std::string& directory_ = scratch_.path();
  std::unique_ptr<MountTableFile> file_;
};

TEST_CASE("a mount path is normalised, or refused with the reason") {
  CHECK(*normalised_mount_path("/a") == "/a");
  CHECK(*normalised_mount_path("//a///b/") == "/a/b");
  for (const char* bad : {"", "a", "/", "//", "/a/./b", "/a/..", "./a"}) {
    CAPTURE(bad);
    CHECK_FALSE(normalised_mount_path(bad).ok());
  }
  CHECK_FALSE(normalised_mount_path("/" + std::string(255, 'x')).ok());
  CHECK(normalised_mount_path("/" + std::string(254, 'x')).ok());
  const auto message = std::string(normalised_mount_path("a/b").status().message());
  CHECK(message == "mount path 'a/b': it is not absolute (write it from '/')");
}

TEST_CASE_FIXTURE(MountTableTest, "the longest mount path wins, and only whole names count") {
  REQUIRE(file_->add("/mnt", 1).ok());
  REQUIRE(file_->add("/mnt/deep/er", 2).ok());
  CHECK_FALSE(find("/").found);
  CHECK_FALSE(find("/mn").found);
  CHECK_FALSE(find("/mntx").found);
  CHECK_FALSE(find("/mntx/deep/er").found);
  CHECK(find("/mnt").instance == 1);
  CHECK(find("/mnt/deep").instance == 1);
  CHECK(find("/mnt/deep/erx").instance == 1);
  CHECK(find("/mnt/deep/er").instance == 2);
  CHECK(find("/mnt/deep/er/a/b").instance == 2);
  CHECK(find("/mnt/deep/er/a/b").mount_bytes == 12);
}

TEST_CASE_FIXTURE(MountTableTest, "a path twice is refused, however it is written") {
  REQUIRE(file_->add("/mnt/x", 0).ok());
  const absl::Status twice = file_->add("//mnt/x/", 1);
  CHECK(twice.code() == absl::StatusCode::kAlreadyExists);
  CHECK(std::string(twice.message()) ==
        "mount path '/mnt/x': it is given twice (mount each path once)");
}

TEST_CASE_FIXTURE(MountTableTest, "64 mounts are all a pool can have") {
  for (unsigned i = 0; i < protocol::kMostMounts; ++i) {
    REQUIRE(file_->add(fmt::format("/m/{}", i), i).ok());
  }
  CHECK(file_->add("/m/more", 64).code() == absl::StatusCode::kResourceExhausted);
  for (unsigned i = 0; i < protocol::kMostMounts; ++i) {
    CHECK(find(fmt::format("/m/{}/file", i)).instance == i);
  }
}

TEST_CASE_FIXTURE(MountTableTest, "another process sees a new mount in the file at once") {
  const Descriptor file(::open((directory_ + "/mounts").c_str(), O_RDONLY));
  REQUIRE(file.ok());
  void* memory =
      ::mmap(nullptr, sizeof(protocol::MountTable), PROT_READ, MAP_SHARED, file.get(), 0);
  REQUIRE(memory != MAP_FAILED);
  const auto& table = *static_cast<const protocol::MountTable*>(memory);
  CHECK(table.magic == protocol::kMountTableMagic);
  CHECK(table.service == static_cast<std::uint64_t>(::getpid()));
  CHECK(table.placeholder_device == 77);
  CHECK_FALSE(protocol::find_mount(table, "/mnt/x", 6).found);
  REQUIRE(file_->add("/mnt/x", 5).ok());
  CHECK(protocol::find_mount(table, "/mnt/x", 6).instance == 5);
  ::munmap(memory, sizeof(protocol::MountTable));
}

TEST_CASE_FIXTURE(MountTableTest, "a reader during changes sees the old table or the new one") {
  REQUIRE(file_->add("/mnt", 1).ok());
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done) {
      const protocol::MountMatch match = find("/mnt/a/b");
      CHECK(match.found);
      CHECK((match.instance == 1 || match.instance == 2));
    }
  });
  for (unsigned i = 0; i < 60; ++i) {
    CHECK(file_->add(i == 30 ? "/mnt/a" : fmt::format("/other/{}", i), i == 30 ? 2 : 9).ok());
  }
  done = true;
  reader.join();
  CHECK(find("/mnt/a/b").instance == 2);
}

TEST_CASE("the file goes with its owner") {
  const testing::ScratchDirectory scratch;
  const std::string& directory = scratch.path();
  {
    MountTableFile file(directory);
    REQUIRE(file.create({.placeholder_device = 0}).ok());
    CHECK(std::filesystem::exists(directory + "/mounts"));
  }
  CHECK(std::filesystem::is_empty(directory));
}

TEST_CASE("a directory that cannot be written is told with its name") {
  MountTableFile file("/proc/self/no-such-directory");
  const absl::Status created = file.create({.placeholder_device = 0});
  REQUIRE_FALSE(created.ok());
  CHECK(std::string(created.message()).find("/proc/self/no-such-directory/mounts: cannot") == 0);
}

}  // namespace
}  // namespace libservices::host
