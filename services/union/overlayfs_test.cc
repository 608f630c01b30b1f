// SPDX-License-Identifier: Apache-2.0
//
// The kernel's overlayfs and Union show the same tree on the same branches: after changes through
// Union, and after changes through overlayfs. Where overlayfs cannot be mounted it says so.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "libservices/filesystem.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/support/scratch_directory.h"

namespace libservices {
namespace {

namespace host = std::filesystem;

using Root = Filesystem<Union<Local, Local>>;
using Tree = std::map<std::string, std::string>;  // path → content; a directory's is "/"

const Context kMe{.caller = {.uid = 0, .gid = 0, .groups = {}}};

Tree tree_of_host(const std::string& top) {
  Tree tree;
  for (const auto& entry : host::recursive_directory_iterator(top)) {
    const std::string path = entry.path().string().substr(top.size());
    if (entry.is_directory()) {
      tree[path] = "/";
    } else {
      std::ifstream file(entry.path());
      tree[path].assign(std::istreambuf_iterator<char>(file), {});
    }
  }
  return tree;
}

void add_tree(Root& fs, const std::string& top, Tree& tree) {
  auto opened = fs.open(kMe, top.empty() ? "/" : top, {O_RDONLY});
  REQUIRE(opened.ok());
  auto seen = fs.stat(kMe, top.empty() ? "/" : top);
  REQUIRE(seen.ok());
  if (!seen->is_directory()) {
    std::string text(256, '\0');
    auto count = fs.read(kMe, **opened, std::as_writable_bytes(std::span(text)));
    REQUIRE(count.ok());
    tree[top] = text.substr(0, *count);
  } else {
    if (!top.empty()) tree[top] = "/";
    std::vector<std::string> names;
    REQUIRE(fs.readdir(kMe, **opened, Listing::kNames, [&](const DirEntry& entry) {
                if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
                return true;
              }).ok());
    for (const std::string& name : names) add_tree(fs, top + "/" + name, tree);
  }
  REQUIRE(fs.close(kMe, std::move(*opened)).ok());
}

Tree tree_of(Root& fs) {
  Tree tree;
  add_tree(fs, "", tree);
  return tree;
}

void write(Root& fs, const std::string& path, std::string_view text) {
  auto file = fs.open(kMe, path, {O_WRONLY | O_CREAT | O_APPEND}, 0644);
  REQUIRE(file.ok());
  REQUIRE(fs.write(kMe, **file, std::as_bytes(std::span(text))).ok());
  REQUIRE(fs.close(kMe, std::move(*file)).ok());
}

struct Branches {
  Branches() {
    for (const char* below : {"low1", "low2"}) {
      const std::string top = scratch.directory(below);
      for (const char* name : {"d", "e", "f"}) {
        host::create_directory(top + "/" + name);
        std::ofstream(top + "/" + name + "/" + below) << below;
        std::ofstream(top + "/" + name + "/both") << below;
      }
      std::ofstream(top + "/" + below) << "top";
    }
  }
  Root::Config config() const {
    return {.upper = {.directory = scratch.directory("upper"), .work = scratch.directory("work")},
            .lowers = {{.directory = scratch.directory("low1"), .work = {}},
                       {.directory = scratch.directory("low2"), .work = {}}},
            .durable = true};
  }
  // False where overlayfs cannot be mounted.
  bool mount(const std::string& more = "") {
    // The branches lie on a tmpfs of their own or on the host's volume: both take overlayfs.
    const std::string options =
        "upperdir=" + scratch.directory("upper") + ",workdir=" + scratch.directory("kernel_work") +
        ",lowerdir=" + scratch.directory("low1") + ":" + scratch.directory("low2") + more;
    merged = scratch.directory("merged");
    if (::mount("overlay", merged.c_str(), "overlay", 0, options.c_str()) == 0) return true;
    std::perror("SKIPPED: overlayfs cannot be mounted here");
    merged.clear();
    return false;
  }
  void unmount() {
    if (!merged.empty()) CHECK(::umount2(merged.c_str(), MNT_DETACH) == 0);
    merged.clear();
  }
  ~Branches() { unmount(); }

  testing::ScratchDirectory scratch;
  std::string merged;
};

TEST_CASE_FIXTURE(Branches, "overlayfs shows the tree that was changed through the union") {
  if (getuid() != 0) {
    std::puts("SKIPPED: needs root");
    return;
  }
  Tree ours;
  {
    Root fs(config());
    REQUIRE(fs.start().ok());
    write(fs, "/d/both", "+");                // copied up
    REQUIRE(fs.unlink(kMe, "/e/both").ok());  // whiteout
    REQUIRE(fs.unlink(kMe, "/low2").ok());
    for (const char* name : {"/f/low1", "/f/low2", "/f/both"}) {
      REQUIRE(fs.unlink(kMe, name).ok());
    }
    REQUIRE(fs.rmdir(kMe, "/f").ok());
    REQUIRE(fs.mkdir(kMe, "/f", 0755).ok());  // opaque
    write(fs, "/f/z", "z");
    REQUIRE(fs.rename(kMe, "/d/low2", "/moved").ok());
    ours = tree_of(fs);
    REQUIRE(fs.stop().ok());
  }
  CHECK(ours.at("/d/both") == "low1+");
  CHECK_FALSE(ours.contains("/f/low1"));
  if (!mount()) return;
  CHECK(tree_of_host(merged) == ours);
}

TEST_CASE_FIXTURE(Branches, "of a file that is in part in the lower, overlayfs never shows holes") {
  const std::string content(1'000'000, 'c');
  std::ofstream(scratch.directory("low1") + "/large") << content;
  if (getuid() != 0) {
    std::puts("SKIPPED: needs root");
    return;
  }
  {
    Root fs(config());
    REQUIRE(fs.start().ok());
    write(fs, "/large", "+");
    REQUIRE(fs.rename(kMe, "/d", "/moved").ok());
    REQUIRE(fs.stop().ok());
  }
  if (!mount()) return;
  std::ifstream refused(merged + "/large");
  CHECK_FALSE(refused.is_open());
  unmount();
  if (!mount(",metacopy=on,redirect_dir=on")) return;
  std::ifstream lower(merged + "/large");
  CHECK(std::string(std::istreambuf_iterator<char>(lower), {}).substr(0, content.size()) == content);
  CHECK(host::exists(merged + "/moved/both"));
  CHECK(host::exists(merged + "/moved/low2"));
  unmount();
  {
    Root fs(config());
    REQUIRE(fs.start().ok());
    std::uint64_t completed = 0;
    REQUIRE(fs.stack().complete(kMe, completed).ok());
    CHECK(completed == 1);
    REQUIRE(fs.stop().ok());
  }
  REQUIRE(mount());
  std::ifstream whole(merged + "/large");
  CHECK(std::string(std::istreambuf_iterator<char>(whole), {}) == content + "+");
}

TEST_CASE_FIXTURE(Branches, "the union shows the tree that was changed through overlayfs") {
  if (getuid() != 0 || !mount()) {
    std::puts("SKIPPED: needs root and overlayfs");
    return;
  }
  std::ofstream(merged + "/d/both", std::ios::app) << "+";
  host::remove(merged + "/e/both");
  host::remove_all(merged + "/f");
  host::create_directory(merged + "/f");
  std::ofstream(merged + "/f/z") << "z";
  host::rename(merged + "/d/low2", merged + "/moved");
  const Tree kernel = tree_of_host(merged);
  unmount();
  Root fs(config());
  REQUIRE(fs.start().ok());
  CHECK(tree_of(fs) == kernel);
  REQUIRE(fs.stop().ok());
}

}  // namespace
}  // namespace libservices
