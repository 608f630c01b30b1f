// SPDX-License-Identifier: Apache-2.0
#include "src/overlay/layers.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "libservices/any_filesystem.h"
#include "tests/support/scratch_directory.h"

namespace libservices::overlay {
namespace {

class Layers {
 public:
  Layers() {
    for (const char* name : {"upper", "work", "merged", "low1", "low2"}) scratch_.directory(name);
    options_.upper = *this / "upper";
    options_.work = *this / "work";
    options_.mountpoint = *this / "merged";
    options_.lowers = {*this / "low1", *this / "low2"};
  }
  ~Layers() {
    if (filesystem_ != nullptr) CHECK(filesystem_->stop().ok());
  }

  std::string operator/(const std::string& name) const { return scratch_.directory("") + name; }
  Options& options() { return options_; }
  AnyFilesystem& start() {
    REQUIRE(find_directories(options_).ok());
    auto built = catalog().build(spec_of(options_, marks_for(options_.work)));
    REQUIRE_MESSAGE(built.ok(), std::string(built.status().message()));
    filesystem_ = *std::move(built);
    const absl::Status started = filesystem_->start();
    REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
    return *filesystem_;
  }

 private:
  testing::ScratchDirectory scratch_;
  Options options_;
  std::unique_ptr<AnyFilesystem> filesystem_;
};

const Context kRoot{.caller = {.uid = 0, .gid = 0, .groups = {}}};

int error_of(const Result<void>& result) { return result.ok() ? 0 : result.error().value; }

TEST_CASE("the spec of a container's mount") {
  Options options;
  options.upper = "/u, (x)";
  options.work = "/w";
  options.lowers = {"/a:b", "/c"};
  CHECK(spec_of(options, Marks::kOverlay) ==
        R"t(union(local:"/u, (x)"(work=/w), local:/a:b, local:/c, range=off, metacopy=off, )t"
        "redirect=off, index=on, volatile=off, marks=overlay)");
  options.is_volatile = options.redirect = options.metacopy = true;
  options.index = false;
  options.range = "64K";
  CHECK(
      spec_of(options, Marks::kFiles)
          .ends_with("range=64K, metacopy=on, redirect=on, index=off, volatile=on, marks=files)"));
}

TEST_CASE("the spec of a view, and of owners") {
  Options options;
  options.lowers = {"/a", "/c"};
  CHECK(spec_of(options, Marks::kOverlay) == "union(local:/a, local:/c, upper=none)");
  options.uids = {{0, 300000, 65536}};
  options.gids = {{0, 1000, 1}, {1, 100000, 65536}};
  CHECK(spec_of(options, Marks::kOverlay) ==
        "idmap(union(local:/a, local:/c, upper=none), uid=0:300000:65536, "
        "gid=0:1000:1:1:100000:65536)");
  options.squash_uid = 7;
  CHECK(spec_of(options, Marks::kOverlay) ==
        "idmap(union(local:/a, local:/c, upper=none), squash_uid=7, "
        "gid=0:1000:1:1:100000:65536)");
}

TEST_CASE("directories are found from the working directory, through symbolic links") {
  Layers layers;
  std::filesystem::create_directory(layers / "l");
  std::filesystem::create_symlink("../low2", layers / "l/ABC");
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(layers / "");
  Options options = layers.options();
  options.lowers = {"l/ABC", "low1/.."};
  options.upper = "upper";
  options.work = "./work";
  options.mountpoint = "merged/";
  const absl::Status found = find_directories(options);
  std::filesystem::current_path(before);
  REQUIRE(found.ok());
  const std::string here = std::filesystem::canonical(layers / "");
  CHECK(options.lowers == std::vector<std::string>{here + "/low2", here});
  CHECK(options.upper == here + "/upper");
  CHECK(options.work == here + "/work");
  CHECK(options.mountpoint == here + "/merged");

  std::ofstream(layers / "file") << "text";
  for (const char* wrong : {"nowhere", "file"}) {
    Options bad = layers.options();
    bad.lowers.push_back(layers / wrong);
    const absl::Status refused = find_directories(bad);
    REQUIRE_FALSE(refused.ok());
    CHECK(std::string(refused.message()).find(layers / wrong) != std::string::npos);
  }
}

TEST_CASE("whiteouts have overlayfs's form where one can be made") {
  Layers layers;
  CHECK(marks_for(layers / "work") == Marks::kOverlay);
  CHECK(std::filesystem::is_empty(layers / "work"));
  CHECK(marks_for(layers / "nowhere") == Marks::kFiles);
}

TEST_CASE("a directory that is made again over a lower one is empty, and says so on disk") {
  Layers layers;
  std::filesystem::create_directories(layers / "low2/data/sub");
  std::ofstream(layers / "low2/data/sub/c") << "text";
  std::filesystem::create_directories(layers / "low1/data");
  AnyFilesystem& fs = layers.start();
  CHECK(error_of(fs.unlink(kRoot, "/data/sub/c")) == 0);
  CHECK(error_of(fs.rmdir(kRoot, "/data/sub")) == 0);
  CHECK(error_of(fs.mkdir(kRoot, "/data/sub", 0755)) == 0);
  CHECK_FALSE(fs.stat(kRoot, "/data/sub/c").ok());
  // As a layer among others, which is how it is compared with its parent.
  Options view;
  view.lowers = {layers / "upper", layers / "low1", layers / "low2"};
  auto seen = catalog().build(spec_of(view, Marks::kOverlay));
  REQUIRE(seen.ok());
  REQUIRE((*seen)->start().ok());
  CHECK((*seen)->stat(kRoot, "/data/sub").ok());
  CHECK_FALSE((*seen)->stat(kRoot, "/data/sub/c").ok());
  CHECK(error_of((*seen)->mkdir(kRoot, "/new", 0755)) == EROFS);
  CHECK((*seen)->stop().ok());
}

TEST_CASE("a view of one layer hides what it marks") {
  Layers layers;
  std::ofstream(layers / "low1/.wh.gone") << "";
  std::ofstream(layers / "low1/file") << "text";
  layers.options().upper.clear();
  layers.options().lowers = {layers / "low1"};
  AnyFilesystem& fs = layers.start();
  CHECK(fs.stat(kRoot, "/file").ok());
  CHECK_FALSE(fs.stat(kRoot, "/.wh.gone").ok());
  CHECK(error_of(fs.unlink(kRoot, "/file")) == EROFS);
}

TEST_CASE("what is stored as root's is shown as the container's superuser, and back") {
  Layers layers;
  std::ofstream(layers / "low1/file") << "text";
  REQUIRE(::chown((layers / "low1").c_str(), 0, 0) == 0);
  REQUIRE(::chown((layers / "low1/file").c_str(), 5, 6) == 0);
  REQUIRE(::chmod((layers / "upper").c_str(), 0755) == 0);
  layers.options().uids = layers.options().gids = {{0, 300000, 65536}};
  AnyFilesystem& fs = layers.start();
  const auto file = fs.stat(kRoot, "/file");
  REQUIRE(file.ok());
  CHECK(file->uid == 300005);
  CHECK(file->gid == 300006);
  const Context container{.caller = {.uid = 300000, .gid = 300000, .groups = {}}};
  REQUIRE(error_of(fs.mkdir(container, "/made", 0755)) == 0);
  struct stat made {};
  REQUIRE(::stat((layers / "upper/made").c_str(), &made) == 0);
  CHECK(made.st_uid == 0);
  CHECK(made.st_gid == 0);
}

}  // namespace
}  // namespace libservices::overlay
