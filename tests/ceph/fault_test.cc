// SPDX-License-Identifier: Apache-2.0
//
// What `Ceph` does when the cluster shuts it out, and when daemons of the cluster stop, die and
// come back.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <atomic>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "libservices/filesystem.h"
#include "libservices/testing/instance.h"
#include "services/ceph/ceph.h"
#include "tests/ceph/cluster.h"

namespace libservices::testing {
namespace {

using namespace std::chrono_literals;

// A service that has a client for itself.
struct Served {
  explicit Served(const std::string& directory, bool exclusive = false)
      : service(config_for(directory, exclusive)) {
    const absl::Status status = service.start();
    REQUIRE_MESSAGE(status.ok(), std::string(status.message()));
    root = must(service.root(context)).node;
  }
  ~Served() {
    root.reset();
    CHECK(service.stop().ok());
  }
  static Ceph::Config config_for(const std::string& directory, bool exclusive = false) {
    static std::atomic<std::uint64_t> made{0};
    Ceph::Config config = cluster_config(directory);
    config.cache_bytes += 4096 * ++made;
    config.exclusive = exclusive;
    config.mount_timeout = 30s;  // a busy machine
    return config;
  }

  std::uint64_t generation() const { return root->client().generation(); }
  // Until the client has noticed, and is back.
  void await_generation(std::uint64_t wanted) {
    while (generation() < wanted) {
      CHECK(service.getattr(context, root).ok());
      std::this_thread::sleep_for(1ms);
    }
  }
  // All clients are shut out, and this one is back.
  void shut_out() {
    const std::uint64_t before = generation();
    cluster_tool("evict");
    await_generation(before + 1);
  }

  Created<Ceph::Node, Ceph::File> make(const std::string& name, std::string_view text) {
    auto made = must(service.create(context, root, name, kPlain, {O_RDWR}));
    must(service.write(context, made.file, 0, bytes_of(text)));
    return made;
  }
  Result<void> sync(Ceph::File& file) { return service.fsync(context, file, SyncScope::kData); }
  Result<std::string> text(Ceph::File& file) {
    std::string got(100, '\0');
    auto size = service.read(context, file, 0, std::as_writable_bytes(std::span(got)));
    if (!size.ok()) return size.error();
    got.resize(*size);
    return got;
  }
  std::string text(const std::string& name) {
    auto node = service.lookup(context, root, name);
    if (!node.ok()) return "none";
    auto file = must(service.open(context, node->node, {O_RDONLY})).file;
    std::string got = must(text(file));
    must(service.close(context, file));
    return got;
  }

  Ceph service;
  const Context context;
  Ceph::Node root;
};

TEST_CASE("a client that was shut out comes back, with its nodes and synchronised files") {
  Served fs(fresh_directory());
  auto writer = fs.make("file", "first");
  must(fs.sync(writer.file));
  auto reader = must(fs.service.open(fs.context, writer.node, {O_RDONLY})).file;
  const auto inner = must(fs.service.mkdir(fs.context, fs.root, "inner", {.mode = 0755}));
  auto listing = must(fs.service.open(fs.context, inner.node, {O_RDONLY | O_DIRECTORY})).file;
  for (int i = 0; i < 40; ++i) {
    must(fs.service.mkdir(fs.context, inner.node, "d" + std::to_string(i), {.mode = 0755}));
  }
  std::vector<std::string> seen;
  std::uint64_t after = 0;
  must(fs.service.readdir(fs.context, listing, 0, Listing::kNames, [&](const DirEntry& entry) {
    if (seen.size() == 20) return false;
    seen.emplace_back(entry.name);
    after = entry.cookie;
    return true;
  }));
  const auto snapshots = must(fs.service.lookup(fs.context, fs.root, ".snap")).node;
  const auto snapshot = must(fs.service.mkdir(fs.context, snapshots, "one", {.mode = 0755})).node;
  const auto kept = must(fs.service.lookup(fs.context, snapshot, "file")).node;

  fs.shut_out();
  CHECK(must(fs.text(reader)) == "first");
  CHECK(must(fs.text(writer.file)) == "first");
  must(fs.service.write(fs.context, writer.file, 0, bytes_of("FIRST")));
  must(fs.sync(writer.file));
  CHECK(must(fs.text(reader)) == "FIRST");
  CHECK(must(fs.service.getattr(fs.context, writer.node)).size == 5);
  must(fs.service.readdir(fs.context, listing, after, Listing::kNames, [&](const DirEntry& entry) {
    seen.emplace_back(entry.name);
    return true;
  }));
  std::sort(seen.begin(), seen.end());
  CHECK(seen.size() == 40);
  CHECK(std::unique(seen.begin(), seen.end()) == seen.end());
  CHECK(must(fs.service.lookup(fs.context, snapshots, "one")).node->in_snapshot());
  auto old = must(fs.service.open(fs.context, kept, {O_RDONLY})).file;
  CHECK(must(fs.text(old)) == "first");
  must(fs.service.rename(fs.context, fs.root, "file", inner.node, "moved", RenameMode::kReplace));
  must(fs.service.close(fs.context, old));

  fs.shut_out();  // as often as it likes
  CHECK(must(fs.text(reader)) == "FIRST");
  for (Ceph::File* file : {&reader, &writer.file, &listing}) {
    must(fs.service.close(fs.context, *file));
  }
}

TEST_CASE("what was written and not synchronised is lost with the session, and that is said") {
  Served fs(fresh_directory());
  auto lost = fs.make("lost", "before");
  must(fs.sync(lost.file));
  auto other = must(fs.service.open(fs.context, lost.node, {O_RDONLY})).file;
  must(fs.service.write(fs.context, lost.file, 0, bytes_of("behind")));
  auto closed = fs.make("closed", "x");
  must(fs.service.close(fs.context, closed.file));
  auto set = fs.make("set", "x");
  must(fs.sync(set.file));
  AttributeChanges mode;
  mode.which = AttributeChanges::kMode;
  mode.mode = 0600;
  must(fs.service.setattr(fs.context, set.node, mode));
  auto fine = fs.make("fine", "x");
  must(fs.sync(fine.file));

  fs.shut_out();
  CHECK(error_of(fs.text(lost.file)) == EIO);
  CHECK(error_of(fs.service.write(fs.context, lost.file, 0, bytes_of("x"))) == EIO);
  CHECK(error_of(fs.sync(lost.file)) == EIO);
  CHECK(error_of(fs.sync(lost.file)) == EIO);
  CHECK(error_of(fs.service.fallocate(fs.context, lost.file, 0, 0, 10)) == EIO);
  // A reader goes on, and is told if it wants to be sure.
  CHECK(must(fs.text(other)) == "before");
  CHECK(error_of(fs.sync(other)) == EIO);
  CHECK(error_of(fs.service.close(fs.context, lost.file)) == EIO);
  auto fresh = must(fs.service.open(fs.context, lost.node, {O_RDWR})).file;
  must(fs.service.write(fs.context, fresh, 0, bytes_of("after!")));
  must(fs.sync(fresh));
  CHECK(must(fs.text(fresh)) == "after!");
  must(fs.service.close(fs.context, fresh));
  must(fs.service.close(fs.context, other));

  // Nobody has it open: the first who wants to be sure is told.
  auto later = must(fs.service.open(fs.context, closed.node, {O_RDONLY})).file;
  CHECK(error_of(fs.sync(later)) == EIO);
  must(fs.service.close(fs.context, later));
  later = must(fs.service.open(fs.context, closed.node, {O_RDONLY})).file;
  must(fs.sync(later));
  must(fs.service.close(fs.context, later));
  CHECK(error_of(fs.sync(set.file)) == EIO);
  CHECK(error_of(fs.service.close(fs.context, set.file)) == EIO);
  must(fs.sync(fine.file));
  must(fs.service.close(fs.context, fine.file));
}

TEST_CASE("who was told while the client was being shut out was told for all") {
  Served fs(fresh_directory());
  for (int i = 0; i < 12; ++i) {
    auto lost = fs.make("f" + std::to_string(i), "lost");
    cluster_tool("evict");
    CHECK(error_of(fs.sync(lost.file)) == EIO);
    (void)fs.service.close(fs.context, lost.file);
    fs.await_generation(i + 2);
    auto fresh = must(fs.service.open(fs.context, lost.node, {O_RDWR | O_TRUNC})).file;
    must(fs.service.write(fs.context, fresh, 0, bytes_of("here")));
    must(fs.sync(fresh));
    CHECK(must(fs.text(fresh)) == "here");
    must(fs.service.close(fs.context, fresh));
  }
}

TEST_CASE("an acknowledged fsync is true, also while the client is being shut out") {
  Served fs(fresh_directory());
  std::size_t all = 0;
  for (int i = 0; i < 12; ++i) {
    const std::string name = "f" + std::to_string(i);
    auto made = fs.service.create(fs.context, fs.root, name, kPlain, {O_RDWR});
    if (!made.ok()) continue;  // shut out in the middle of it
    std::atomic<bool> stop{false};
    std::size_t acknowledged = 0;
    std::thread writing([&] {
      while (!stop && acknowledged < 4096) {
        if (!fs.service.write(fs.context, made->file, acknowledged, bytes_of("x")).ok()) return;
        if (!fs.sync(made->file).ok()) return;
        ++acknowledged;
      }
    });
    cluster_tool("evict");
    std::this_thread::sleep_for(30ms);
    stop = true;
    writing.join();
    (void)fs.service.close(fs.context, made->file);
    fs.await_generation(i + 2);
    const auto node = must(fs.service.lookup(fs.context, fs.root, name)).node;
    auto file = must(fs.service.open(fs.context, node, {O_RDONLY})).file;
    std::string got(8192, '\0');
    got.resize(must(fs.service.read(fs.context, file, 0, std::as_writable_bytes(std::span(got)))));
    must(fs.service.close(fs.context, file));
    CAPTURE(acknowledged);
    CHECK(got.substr(0, acknowledged) == std::string(acknowledged, 'x'));
    all += acknowledged;
  }
  CHECK(all != 0);
}

TEST_CASE("many callers are inside while the client is shut out, and none is left there") {
  Served fs(fresh_directory());
  auto shared = fs.make("shared", "text");
  must(fs.sync(shared.file));
  auto reader = must(fs.service.open(fs.context, shared.node, {O_RDONLY})).file;
  std::atomic<bool> stop{false};
  std::atomic<int> answers{0};
  std::vector<std::jthread> callers;
  // Before they are waited for, however this ends.
  const absl::Cleanup stopping = [&] { stop = true; };
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      const std::string name = "n" + std::to_string(i);
      while (!stop) {
        const auto text = fs.text(reader);
        CHECK((text.ok() && *text == "text"));
        const auto looked = fs.service.lookup(fs.context, fs.root, "shared");
        CHECK(looked.ok());
        if (!looked.ok()) continue;
        auto file = fs.service.open(fs.context, looked->node, {O_RDONLY});
        CHECK(file.ok());
        if (file.ok()) (void)fs.service.close(fs.context, file->file);
        // What changes something may be cut short.
        const auto made = fs.service.mkdir(fs.context, fs.root, name, {.mode = 0755});
        CHECK((made.ok() || error_of(made) == EIO || error_of(made) == EEXIST));
        const auto gone = fs.service.rmdir(fs.context, fs.root, name);
        CHECK((gone.ok() || error_of(gone) == EIO || error_of(gone) == ENOENT));
        ++answers;
      }
    });
  }
  for (int i = 0; i < 4; ++i) {
    fs.shut_out();
    const int before = answers;
    while (answers < before + 8) std::this_thread::sleep_for(1ms);
  }
  stop = true;
  callers.clear();
  must(fs.service.close(fs.context, reader));
  must(fs.service.close(fs.context, shared.file));
}

TEST_CASE("a lock that was lost with the client is an error of its file") {
  Served fs(fresh_directory());
  auto locked = fs.make("locked", "text");
  auto plain = must(fs.service.open(fs.context, locked.node, {O_RDONLY})).file;
  auto free = must(fs.service.open(fs.context, locked.node, {O_RDONLY})).file;
  must(fs.sync(locked.file));
  const LockRequest lock{.type = LockRequest::Type::kExclusive};
  const LockRequest unlock{.type = LockRequest::Type::kUnlock};
  must(fs.service.lock(fs.context, free, 1, lock));
  must(fs.service.lock(fs.context, free, 1, unlock));
  must(fs.service.lock(fs.context, locked.file, 2, lock));
  CHECK(error_of(fs.service.lock(fs.context, free, 1, lock)) == EAGAIN);
  fs.shut_out();
  CHECK(must(fs.text(plain)) == "text");
  CHECK(must(fs.text(free)) == "text");  // refused ones were none
  CHECK(error_of(fs.text(locked.file)) == EIO);
  CHECK(error_of(fs.service.lock(fs.context, locked.file, 2, lock)) == EIO);
  must(fs.service.lock(fs.context, plain, 3, lock));
  CHECK(error_of(fs.service.lock(fs.context, free, 1, lock)) == EAGAIN);
  for (Ceph::File* file : {&locked.file, &plain, &free}) {
    (void)fs.service.close(fs.context, *file);
  }
}

TEST_CASE("the work directory stays this service's, unless another one has taken it") {
  const std::string directory = fresh_directory();
  Served fs(directory, true);
  const auto staging = must(fs.service.staging(fs.context, Staging::kDrafts));
  must(fs.service.mkdir(fs.context, staging, "draft", {.mode = 0755}));
  fs.shut_out();
  {
    Served second(directory, true);
    CHECK(error_of(second.service.staging(second.context, Staging::kDrafts)) == EBUSY);
  }
  CHECK(fs.service.lookup(fs.context, staging, "draft").ok());
  must(fs.service.mkdir(fs.context, fs.root, "name", {.mode = 0755}));

  const std::uint64_t before = fs.generation();
  {
    // It asks nothing meanwhile, and so notices nothing.
    cluster_tool("evict");
    Served second(directory, true);
    while (!second.service.staging(second.context, Staging::kDrafts).ok()) {
      std::this_thread::sleep_for(10ms);
    }
    fs.await_generation(before + 1);
    CHECK(error_of(fs.service.mkdir(fs.context, fs.root, "other", {.mode = 0755})) == EIO);
    CHECK(error_of(fs.service.staging(fs.context, Staging::kDrafts)) == EBUSY);
    CHECK(fs.service.lookup(fs.context, fs.root, "name").ok());
    must(second.service.mkdir(second.context, second.root, "other", {.mode = 0755}));
  }
}

TEST_CASE("what a filesystem remembers of its own directory goes with the session") {
  Filesystem<Ceph> fs(Served::config_for(fresh_directory(), true));
  REQUIRE(fs.start().ok());
  const Context context;
  auto file = fs.open(context, "/file", {O_CREAT | O_RDWR}, 0644);
  REQUIRE(file.ok());
  REQUIRE(fs.write(context, **file, bytes_of("first")).ok());
  REQUIRE(fs.fsync(context, **file, SyncScope::kAll).ok());
  REQUIRE(fs.write(context, **file, bytes_of(" and more")).ok());
  REQUIRE(fs.stat(context, "/file")->size == 14);
  cluster_tool("evict");
  // A stat of what is remembered asks nobody; statfs is of no use, it succeeds always.
  for (int i = 0; fs.stat(context, "/file")->size != 5 && i < 10000; ++i) {
    (void)fs.stat(context, "/none" + std::to_string(i));
    std::this_thread::sleep_for(1ms);
  }
  CHECK(fs.stat(context, "/file")->size == 5);
  CHECK(error_of(fs.fsync(context, **file, SyncScope::kAll)) == EIO);
  CHECK(error_of(fs.close(context, *std::move(file))) == EIO);
  CHECK(fs.stop().ok());
}

// `call` does not end while these daemons are stopped, and does then.
template <class Call>
void waits_for(const std::string& stop, const std::string& go, const std::string& daemon,
               std::chrono::milliseconds pause, Call call) {
  cluster_tool(stop, {daemon});
  auto called = std::async(std::launch::async, call);
  CHECK(called.wait_for(pause) == std::future_status::timeout);
  cluster_tool(go, {daemon});
  called.get();
}

TEST_CASE("who needs an OSD waits for it, and nobody else does") {
  Served fs(fresh_directory());
  auto made = fs.make("file", "first");
  must(fs.sync(made.file));
  for (const auto& verbs : {std::pair("pause", "resume"), std::pair("kill", "start")}) {
    const std::string text = std::string(verbs.first) + "!";
    CAPTURE(text);
    waits_for(verbs.first, verbs.second, "osd", 300ms, [&] {
      must(fs.service.write(fs.context, made.file, 0, bytes_of(text)));
      must(fs.service.mkdir(fs.context, fs.root, text, {.mode = 0755}));
      CHECK(fs.service.lookup(fs.context, fs.root, text).ok());
      must(fs.sync(made.file));
    });
    CHECK(fs.text("file").starts_with(text));
  }
  must(fs.service.close(fs.context, made.file));
}

TEST_CASE("who needs the MDS waits for it, and what is known is answered") {
  Served fs(fresh_directory());
  auto made = fs.make("file", "first");
  must(fs.sync(made.file));
  waits_for("kill", "start", "mds", 300ms, [&] {
    CHECK(must(fs.service.getattr(fs.context, made.node)).size == 5);
    CHECK(must(fs.text(made.file)) == "first");
    must(fs.service.write(fs.context, made.file, 0, bytes_of("second")));
    must(fs.service.mkdir(fs.context, fs.root, "directory", {.mode = 0755}));
  });
  must(fs.sync(made.file));
  CHECK(fs.generation() == 1);
  CHECK(fs.text("file") == "second");
  must(fs.service.close(fs.context, made.file));
}

TEST_CASE("a service does not start without an MDS, and says why; then it does") {
  Ceph::Config config = Served::config_for(fresh_directory());
  config.mount_timeout = 1s;
  config.session = "starts";
  // One that is stopped is taken for active, and libcephfs waits for it for ever.
  for (const auto& verbs : {std::pair("kill", "start"), std::pair("pause", "resume")}) {
    CAPTURE(verbs.first);
    cluster_tool(verbs.first, {"mds"});
    Ceph service(config);
    const auto begun = std::chrono::steady_clock::now();
    const absl::Status status = service.start();
    CHECK(std::chrono::steady_clock::now() - begun < 10s);
    cluster_tool(verbs.second, {"mds"});
    REQUIRE_FALSE(status.ok());
    CHECK(std::string(status.message()).find("no MDS answers") != std::string::npos);
  }
  config.mount_timeout = 30s;
  Ceph service(config);
  const absl::Status status = service.start();
  CAPTURE(std::string(status.message()));
  REQUIRE(status.ok());
  CHECK(service.stop().ok());
}

TEST_CASE("nobody notices that the monitor was away") {
  Served fs(fresh_directory());
  auto made = fs.make("file", "first");
  cluster_tool("kill", {"mon"});
  must(fs.sync(made.file));
  must(fs.service.mkdir(fs.context, fs.root, "directory", {.mode = 0755}));
  cluster_tool("start", {"mon"});
  must(fs.service.write(fs.context, made.file, 0, bytes_of("other")));
  must(fs.sync(made.file));
  CHECK(fs.text("file") == "other");
  must(fs.service.close(fs.context, made.file));
}

}  // namespace
}  // namespace libservices::testing
