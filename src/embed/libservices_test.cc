// SPDX-License-Identifier: Apache-2.0
#include "libservices/libservices.h"

#include <dirent.h>
#include <doctest/doctest.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr libservices_caller kRoot = {0, 0, nullptr, 0, 0, 0};
constexpr gid_t kGroups[] = {50};
constexpr libservices_caller kUser = {1000, 100, kGroups, 1, 027, 7};

class EmbedTest {
 protected:
  EmbedTest() {
    char* error = nullptr;
    fs = libservices_filesystem_create("memory", &error);
    REQUIRE(fs != nullptr);
    REQUIRE(error == nullptr);
  }
  ~EmbedTest() { CHECK(libservices_filesystem_destroy(fs) == 0); }

  libservices_file* open(const char* path, int flags, const libservices_caller* caller = &kRoot) {
    libservices_file* file = nullptr;
    REQUIRE(libservices_filesystem_open(fs, caller, path, flags, 0666, &file) == 0);
    return file;
  }

  libservices_filesystem* fs;
};

TEST_CASE("a spec that cannot be built is told in words") {
  char* error = nullptr;
  CHECK(libservices_filesystem_create("nothing(such)", &error) == nullptr);
  REQUIRE(error != nullptr);
  CHECK(std::string_view(error).find("no such composition") != std::string_view::npos);
  CHECK(std::string_view(error).find("memory") != std::string_view::npos);
  std::free(error);
  CHECK(libservices_filesystem_create("memory(", nullptr) == nullptr);
}

TEST_CASE_FIXTURE(EmbedTest, "a file is written, read, sought, cut and told of") {
  libservices_file* file = open("/f", O_CREAT | O_RDWR);
  CHECK(libservices_file_write(file, &kRoot, "hello world", 11) == 11);
  CHECK(libservices_file_seek(file, &kRoot, 6, SEEK_SET) == 6);
  char text[32] = {};
  CHECK(libservices_file_read(file, &kRoot, text, sizeof text) == 5);
  CHECK(std::string_view(text, 5) == "world");
  CHECK(libservices_file_pwrite(file, &kRoot, "W", 1, 6) == 1);
  CHECK(libservices_file_pread(file, &kRoot, text, 5, 6) == 5);
  CHECK(std::string_view(text, 5) == "World");
  CHECK(libservices_file_truncate(file, &kRoot, 5) == 0);
  CHECK(libservices_file_sync(file, &kRoot) == 0);
  struct stat status {};
  CHECK(libservices_file_stat(file, &kRoot, &status) == 0);
  CHECK(status.st_size == 5);
  CHECK(S_ISREG(status.st_mode));
  CHECK(libservices_file_close(file, &kRoot) == 0);
  CHECK(libservices_filesystem_truncate(fs, &kRoot, "/f", 3) == 0);
  CHECK(libservices_filesystem_stat(fs, &kRoot, "/f", &status) == 0);
  CHECK(status.st_size == 3);
}

TEST_CASE_FIXTURE(EmbedTest, "names are made, listed, linked, renamed and removed") {
  CHECK(libservices_filesystem_mkdir(fs, &kRoot, "/d", 0755) == 0);
  CHECK(libservices_filesystem_mkdir(fs, &kRoot, "/d", 0755) == -EEXIST);
  CHECK(libservices_file_close(open("/d/a", O_CREAT | O_RDWR), &kRoot) == 0);
  CHECK(libservices_filesystem_link(fs, &kRoot, "/d/a", "/d/b") == 0);
  CHECK(libservices_filesystem_symlink(fs, &kRoot, "a", "/d/s") == 0);
  CHECK(libservices_filesystem_rename(fs, &kRoot, "/d/b", "/d/c") == 0);
  libservices_file* directory = open("/d", O_RDONLY | O_DIRECTORY);
  libservices_entry entry;
  std::set<std::string> names;
  int more = 0;
  while ((more = libservices_file_readdir(directory, &kRoot, &entry)) == 1) {
    CHECK(names.insert(entry.name).second);
  }
  CHECK(more == 0);
  CHECK(names == std::set<std::string>{".", "..", "a", "c", "s"});
  CHECK(libservices_file_close(directory, &kRoot) == 0);
  char target[8] = {};
  CHECK(libservices_filesystem_readlink(fs, &kRoot, "/d/s", target, sizeof target) == 1);
  CHECK(target[0] == 'a');
  struct stat status {};
  CHECK(libservices_filesystem_lstat(fs, &kRoot, "/d/s", &status) == 0);
  CHECK(S_ISLNK(status.st_mode));
  CHECK(libservices_filesystem_stat(fs, &kRoot, "/d/s", &status) == 0);
  CHECK(status.st_nlink == 2);
  CHECK(libservices_filesystem_rmdir(fs, &kRoot, "/d") == -ENOTEMPTY);
  for (const char* name : {"/d/a", "/d/c", "/d/s"}) {
    CHECK(libservices_filesystem_unlink(fs, &kRoot, name) == 0);
  }
  CHECK(libservices_filesystem_rmdir(fs, &kRoot, "/d") == 0);
  CHECK(libservices_filesystem_stat(fs, &kRoot, "/d", &status) == -ENOENT);
  struct statvfs volume {};
  CHECK(libservices_filesystem_statvfs(fs, &kRoot, "/", &volume) == 0);
  CHECK(volume.f_namemax == 255);
}

TEST_CASE_FIXTURE(EmbedTest, "each call is made for its caller") {
  CHECK(libservices_filesystem_chmod(fs, &kRoot, "/", 01777) == 0);
  CHECK(libservices_file_close(open("/mine", O_CREAT | O_RDWR, &kUser), &kUser) == 0);
  struct stat status {};
  CHECK(libservices_filesystem_stat(fs, &kUser, "/mine", &status) == 0);
  CHECK(status.st_uid == 1000);
  CHECK(status.st_gid == 100);
  CHECK((status.st_mode & 07777) == 0640);
  constexpr libservices_caller kOther = {1001, 101, nullptr, 0, 0, 0};
  libservices_file* file = nullptr;
  CHECK(libservices_filesystem_open(fs, &kOther, "/mine", O_RDONLY, 0, &file) == -EACCES);
  CHECK(libservices_filesystem_access(fs, &kOther, "/mine", R_OK) == -EACCES);
  CHECK(libservices_filesystem_unlink(fs, &kOther, "/mine") == -EPERM);
  CHECK(libservices_filesystem_chown(fs, &kUser, "/mine", 1001, static_cast<gid_t>(-1)) == -EPERM);
  CHECK(libservices_filesystem_chown(fs, &kUser, "/mine", static_cast<uid_t>(-1), 50) == 0);
  const struct timespec times[2] = {{5, 0}, {0, UTIME_OMIT}};
  CHECK(libservices_filesystem_utimens(fs, &kUser, "/mine", times) == 0);
  CHECK(libservices_filesystem_stat(fs, &kUser, "/mine", &status) == 0);
  CHECK(status.st_atim.tv_sec == 5);
  CHECK(status.st_gid == 50);
  // Without a caller it is this process.
  CHECK(libservices_filesystem_stat(fs, nullptr, "/", &status) == 0);
}

TEST_CASE_FIXTURE(EmbedTest, "many threads work at once") {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string path = "/f" + std::to_string(t % 2);
      for (int i = 0; i < 200; ++i) {
        libservices_file* file = nullptr;
        CHECK(libservices_filesystem_open(fs, &kRoot, path.c_str(), O_CREAT | O_RDWR, 0600,
                                          &file) == 0);
        CHECK(libservices_file_write(file, &kRoot, "x", 1) == 1);
        CHECK(libservices_file_close(file, &kRoot) == 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
