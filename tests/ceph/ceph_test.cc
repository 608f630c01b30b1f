// SPDX-License-Identifier: Apache-2.0
//
// What `Ceph` does beyond the contract: sharing with other clients, whose the objects are, work
// directories, sessions, and what it says when something is wrong.
#include "services/ceph/ceph.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "libservices/filesystem.h"
#include "libservices/testing/instance.h"
#include "tests/ceph/cluster.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

struct Started {
  explicit Started(const Ceph::Config& config) : service(config) {
    const absl::Status status = service.start();
    REQUIRE_MESSAGE(status.ok(), std::string(status.message()));
    root = must(service.root(context)).node;
  }
  ~Started() {
    root.reset();
    CHECK(service.stop().ok());
  }
  Ceph service;
  const Context context;
  Ceph::Node root;
};

std::string failure_of(const Ceph::Config& config) {
  Ceph service(config);
  const absl::Status status = service.start();
  REQUIRE_FALSE(status.ok());
  return std::string(status.message());
}
bool has(const std::string& text, std::string_view part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE(text);
  return found;
}

TEST_CASE("two clients see each other's names, attributes and bytes at once") {
  const std::string directory = fresh_directory();
  Started one(cluster_config(directory));
  Started two(second_client_config(directory));
  CHECK(one.service.coherence().kind == Coherence::Kind::kAskAgain);
  write_file(one.service, one.context, one.root, "file", "first");
  auto seen = must(two.service.lookup(two.context, two.root, "file"));
  CHECK(seen.attributes.size == 5);

  auto reader = must(two.service.open(two.context, seen.node, {O_RDONLY})).file;
  auto mine = must(one.service.lookup(one.context, one.root, "file")).node;
  auto writer = must(one.service.open(one.context, mine, {O_WRONLY})).file;
  for (const char* text : {"FIRST", "fifth"}) {
    must(one.service.write(one.context, writer, 0, bytes_of(text)));
    std::string got(5, '\0');
    CHECK(must(two.service.read(two.context, reader, 0, std::as_writable_bytes(std::span(got)))) ==
          5);
    CHECK(got == text);
  }
  must(one.service.write(one.context, writer, 5, bytes_of(" and more")));
  CHECK(must(two.service.getattr(two.context, seen.node)).size == 14);
  must(one.service.close(one.context, writer));
  must(two.service.close(two.context, reader));

  must(two.service.rename(two.context, two.root, "file", two.root, "moved", RenameMode::kReplace));
  CHECK(error_of(one.service.lookup(one.context, one.root, "file")) == ENOENT);
  CHECK(must(one.service.lookup(one.context, one.root, "moved")).attributes.inode ==
        seen.attributes.inode);
  CHECK(must(one.service.lookup(one.context, one.root, "moved")).attributes.device ==
        seen.attributes.device);
  must(one.service.unlink(one.context, one.root, "moved"));
  CHECK(error_of(two.service.lookup(two.context, two.root, "moved")) == ENOENT);
  CHECK(must(two.service.getattr(two.context, seen.node)).links == 0);
}

TEST_CASE("what is made belongs to whom it shall, whoever asks, also in a set-group-id directory") {
  Started fs(cluster_config(fresh_directory()));
  const auto shared =
      must(fs.service.mkdir(fs.context, fs.root, "shared", {.mode = 02777, .uid = 5, .gid = 6}));
  CHECK(shared.attributes.mode == (S_IFDIR | 02777));
  Context user;
  const gid_t groups[] = {6, 1000, 70000};
  user.caller.uid = user.caller.gid = 1000;
  user.caller.groups = groups;
  user.umask = 0777;  // was Filesystem's affair
  const NewNode fresh{.mode = 04755, .uid = 1000, .gid = 1000};
  const auto made = must(fs.service.create(user, shared.node, "file", fresh, {O_WRONLY}));
  CHECK(made.attributes.mode == (S_IFREG | 04755));
  CHECK(made.attributes.uid == 1000);
  CHECK(made.attributes.gid == 1000);
  const auto directory = must(fs.service.mkdir(user, shared.node, "directory", fresh));
  CHECK(directory.attributes.mode == (S_IFDIR | 04755));
  CHECK(directory.attributes.gid == 1000);
  const auto link = must(fs.service.symlink(user, shared.node, "link", "x", fresh));
  CHECK(link.attributes.uid == 1000);
  CHECK(link.attributes.gid == 1000);
  const NewNode device{.mode = S_IFCHR | 0600, .uid = 1, .gid = 2, .special_device = 0x12345};
  const auto node = must(fs.service.mknod(fs.context, shared.node, "device", device));
  CHECK(node.attributes.special_device == 0x12345);
  CHECK(must(fs.service.lookup(fs.context, shared.node, "device")).attributes.special_device ==
        0x12345);
}

TEST_CASE("callers may what the filesystem above allows them, and no more") {
  Filesystem<Ceph> fs(cluster_config(fresh_directory()));
  REQUIRE(fs.start().ok());
  Context user;
  user.caller.uid = user.caller.gid = 1000;
  const Context root;
  constexpr XattrMode kSet = XattrMode::kCreateOrReplace;
  REQUIRE(fs.mkdir(root, "/open", 01777).ok());
  REQUIRE(fs.mkdir(root, "/closed", 0755).ok());
  CHECK(error_of(fs.mkdir(user, "/closed/x", 0755)) == EACCES);
  CHECK(fs.mkdir(user, "/open/x", 0700).ok());
  CHECK(fs.stat(root, "/open/x")->uid == 1000);
  CHECK(error_of(fs.mknod(user, "/open/device", S_IFCHR | 0666, 0x103)) == EPERM);
  CHECK(error_of(fs.setxattr(user, "/open/x", "trusted.a", bytes_of("v"), kSet)) == EPERM);
  CHECK(error_of(fs.setxattr(user, "/open/x", "security.a", bytes_of("v"), kSet)) == EPERM);
  CHECK(fs.setxattr(user, "/open/x", "user.a", bytes_of("v"), kSet).ok());
  auto file = fs.open(user, "/open/file", {O_CREAT | O_RDWR}, 0666);
  REQUIRE(file.ok());
  CHECK(fs.close(user, *std::move(file)).ok());
  CHECK(error_of(fs.open(user, "/open/file", {O_RDONLY | O_DIRECTORY}, 0)) == ENOTDIR);
  CHECK(error_of(fs.open(user, "/open", {O_TMPFILE | O_RDWR}, 0600)) == EOPNOTSUPP);
  CHECK(fs.stop().ok());
}

TEST_CASE("a new owner leaves the set-id bits that Filesystem leaves") {
  Filesystem<Ceph> fs(cluster_config(fresh_directory()));
  REQUIRE(fs.start().ok());
  const Context root;
  auto file = fs.open(root, "/file", {O_CREAT | O_RDWR}, 0600);
  REQUIRE(file.ok());
  CHECK(fs.close(root, *std::move(file)).ok());
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = 06700;
  REQUIRE(fs.setattr(root, "/file", changes).ok());
  changes.which = AttributeChanges::kUid | AttributeChanges::kGid;
  changes.uid = changes.gid = 7;
  REQUIRE(fs.setattr(root, "/file", changes).ok());
  CHECK(fs.stat(root, "/file")->permissions() == 02700);
  changes.uid = changes.gid = 8;
  REQUIRE(fs.setattr(root, "/file", changes).ok());
  CHECK(fs.stat(root, "/file")->permissions() == 02700);
  CHECK(fs.stat(root, "/file")->uid == 8);
  CHECK(fs.stop().ok());
}

TEST_CASE("times that the cluster cannot store become the nearest that it can") {
  Started fs(cluster_config(fresh_directory()));
  write_file(fs.service, fs.context, fs.root, "file", "x");
  const auto file = must(fs.service.lookup(fs.context, fs.root, "file")).node;
  for (const auto& [set, kept] : {std::pair<std::int64_t, std::int64_t>{-5, 0},
                                  {0, 0},
                                  {UINT32_MAX, UINT32_MAX},
                                  {std::int64_t{1} << 32U, UINT32_MAX}}) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kMtime;
    changes.mtime = {set, 0, 0};
    CHECK(must(fs.service.setattr(fs.context, file, changes)).mtime.seconds == kept);
  }
}

TEST_CASE("access lists are stored, and not applied a second time") {
  Started fs(cluster_config(fresh_directory()));
  const auto directory = must(fs.service.mkdir(fs.context, fs.root, "d", {.mode = 0755}));
  // SOURCE: <linux/posix_acl_xattr.h>. u::rwx u:7:rwx g::r-x m::rwx o::---
  const std::string list(
      "\2\0\0\0"
      "\1\0\7\0\377\377\377\377"
      "\2\0\7\0\7\0\0\0"
      "\4\0\5\0\377\377\377\377"
      "\20\0\7\0\377\377\377\377"
      "\40\0\0\0\377\377\377\377",
      44);
  must(fs.service.setxattr(fs.context, directory.node, "system.posix_acl_default", bytes_of(list),
                           XattrMode::kCreateOrReplace));
  std::string got(100, '\0');
  got.resize(must(fs.service.getxattr(fs.context, directory.node, "system.posix_acl_default",
                                      std::as_writable_bytes(std::span(got)))));
  CHECK(got == list);
  auto made = must(fs.service.create(fs.context, directory.node, "f", {.mode = 0777}, {O_WRONLY}));
  CHECK(made.attributes.permissions() == 0777);
}

TEST_CASE("a work directory has one user at a time, and what it left goes") {
  const std::string directory = fresh_directory();
  const Ceph::Config config = cluster_config(directory);
  {
    Started one(config);
    const auto staging = must(one.service.staging(one.context, Staging::kDrafts));
    write_file(one.service, one.context, staging, "draft", "x");
    const auto kept = must(one.service.staging(one.context, Staging::kKept));
    CHECK(error_of(one.service.lookup(one.context, kept, "kept")) == ENOENT);
    write_file(one.service, one.context, kept, "kept", "x");
    Started same_client(config);
    CHECK(error_of(same_client.service.staging(one.context, Staging::kDrafts)) == EBUSY);
    Started other(second_client_config(directory));
    CHECK(error_of(other.service.staging(one.context, Staging::kDrafts)) == EBUSY);
    CHECK(must(one.service.lookup(one.context, staging, "draft")).attributes.size == 1);
  }
  Started next(second_client_config(directory));
  const auto staging = must(next.service.staging(next.context, Staging::kDrafts));
  CHECK(error_of(next.service.lookup(next.context, staging, "draft")) == ENOENT);
  const auto kept = must(next.service.staging(next.context, Staging::kKept));
  CHECK(must(next.service.lookup(next.context, kept, "kept")).attributes.size == 1);
}

TEST_CASE("instances that agree share a client, and others do not") {
  const std::string directory = fresh_directory();
  Started one(cluster_config(directory));
  Started two(cluster_config(directory));
  Started other(second_client_config(directory));
  const auto mount_of = [](const Started& fs) { return fs.root->client().try_use().info(); };
  CHECK(mount_of(one) == mount_of(two));
  CHECK(mount_of(one) != mount_of(other));
  CHECK(one.service.place() == other.service.place());
}

TEST_CASE("of a directory that is unchanging, pages that were read whole are kept") {
  const std::string directory = fresh_directory();
  Started one(cluster_config(directory));
  write_file(one.service, one.context, one.root, "file", std::string(8192, 'a'));
  const auto snapshots = must(one.service.lookup(one.context, one.root, ".snap")).node;
  must(one.service.mkdir(one.context, snapshots, "one", {.mode = 0700, .uid = 0, .gid = 0}));
  Ceph::Config config = second_client_config(directory);
  config.unchanging = true;
  {
    Started two(config);
    const auto read = [&](Ceph::Node in, std::uint64_t offset) {
      const auto node = must(two.service.lookup(two.context, in, "file")).node;
      auto file = must(two.service.open(two.context, node, {O_RDONLY})).file;
      std::string got(4096, '\0');
      must(two.service.read(two.context, file, offset, std::as_writable_bytes(std::span(got))));
      must(two.service.close(two.context, file));
      return got;
    };
    CHECK(read(two.root, 0) == std::string(4096, 'a'));
    // Against the promise; so it is seen where the bytes come from.
    const auto node = must(one.service.lookup(one.context, one.root, "file")).node;
    auto writer = must(one.service.open(one.context, node, {O_WRONLY})).file;
    must(one.service.write(one.context, writer, 0, bytes_of(std::string(8192, 'b'))));
    must(one.service.close(one.context, writer));
    CHECK(read(two.root, 0) == std::string(4096, 'a'));
    CHECK(read(two.root, 4096) == std::string(4096, 'b'));
    // Its inode number is the same.
    const auto all = must(two.service.lookup(two.context, two.root, ".snap")).node;
    const auto snapshot = must(two.service.lookup(two.context, all, "one")).node;
    CHECK(read(snapshot, 4096) == std::string(4096, 'a'));
  }
  must(one.service.rmdir(one.context, snapshots, "one"));
}

TEST_CASE("a snapshot is made by a directory in .snap, and keeps what was") {
  Started fs(cluster_config(fresh_directory()));
  write_file(fs.service, fs.context, fs.root, "file", "before");
  const auto live = must(fs.service.lookup(fs.context, fs.root, "file"));
  const auto snapshots = must(fs.service.lookup(fs.context, fs.root, ".snap")).node;
  must(fs.service.mkdir(fs.context, snapshots, "one", {.mode = 0700, .uid = 7, .gid = 8}));
  auto writer = must(fs.service.open(fs.context, live.node, {O_WRONLY})).file;
  must(fs.service.write(fs.context, writer, 0, bytes_of("behind")));
  must(fs.service.close(fs.context, writer));

  const auto one = must(fs.service.lookup(fs.context, snapshots, "one")).node;
  const auto kept = must(fs.service.lookup(fs.context, one, "file"));
  CHECK(kept.attributes.inode == live.attributes.inode);
  CHECK(kept.attributes.device != live.attributes.device);
  auto reader = must(fs.service.open(fs.context, kept.node, {O_RDONLY})).file;
  std::string text(10, '\0');
  text.resize(
      must(fs.service.read(fs.context, reader, 0, std::as_writable_bytes(std::span(text)))));
  CHECK(text == "before");
  must(fs.service.close(fs.context, reader));
  CHECK(error_of(fs.service.create(fs.context, one, "new", kPlain, {O_WRONLY})) == EROFS);
  CHECK(error_of(fs.service.unlink(fs.context, one, "file")) == EROFS);
  must(fs.service.rmdir(fs.context, snapshots, "one"));
  CHECK(error_of(fs.service.lookup(fs.context, snapshots, "one")) == ENOENT);
}

TEST_CASE("who takes over a session has its files at once, and the other one knows") {
  const std::string directory = fresh_directory();
  Ceph::Config config = second_client_config(directory);
  config.session = "of-the-test";
  config.mount_timeout = std::chrono::seconds(2);  // then it has given up, for now
  Started dead(config);
  auto made = must(dead.service.create(dead.context, dead.root, "file", kPlain, {O_RDWR}));
  must(dead.service.write(dead.context, made.file, 0, bytes_of("lasts")));
  must(dead.service.fsync(dead.context, made.file, SyncScope::kData));

  config.cache_bytes += 4096;  // a client of its own
  Started next(config);
  const auto found = must(next.service.lookup(next.context, next.root, "file"));
  CHECK(found.attributes.size == 5);
  auto file = must(next.service.open(next.context, found.node, {O_RDWR})).file;
  must(next.service.write(next.context, file, 5, bytes_of("!")));
  must(next.service.fsync(next.context, file, SyncScope::kAll));
  must(next.service.close(next.context, file));
  // It may not know yet, but then it cannot synchronise.
  (void)dead.service.write(dead.context, made.file, 0, bytes_of("late"));
  CHECK(error_of(dead.service.fsync(dead.context, made.file, SyncScope::kData)) == EIO);
  CHECK(error_of(dead.service.lookup(dead.context, dead.root, "file")) == EIO);
  const auto again = must(next.service.lookup(next.context, next.root, "file"));
  CHECK(again.attributes.size == 6);
}

TEST_CASE("locks keep the callers of another client out, unless nobody else shall be there") {
  using Owner = LockRequest::Owner;
  using Type = LockRequest::Type;
  const std::string directory = fresh_directory();
  Filesystem<Ceph> one(cluster_config(directory));
  Filesystem<Ceph> two(second_client_config(directory));
  Ceph::Config exclusive = second_client_config(directory);
  exclusive.exclusive = true;
  Filesystem<Ceph> alone(exclusive);
  for (Filesystem<Ceph>* each : {&one, &two, &alone}) REQUIRE(each->start().ok());
  Context here, there;
  here.process = 1;
  there.process = 2;
  auto mine = must(one.open(here, "/file", {O_CREAT | O_RDWR}, 0666));
  auto theirs = must(two.open(there, "/file", {O_RDWR}, 0));
  const LockRequest head{.owner = Owner::kRecord, .type = Type::kExclusive, .end = 9};
  const LockRequest tail{.owner = Owner::kOpenFile, .type = Type::kExclusive, .start = 10};
  const LockRequest flock{.owner = Owner::kFlock, .type = Type::kExclusive};
  const auto unlocked = [](LockRequest request) {
    request.type = Type::kUnlock;
    return request;
  };

  must(one.lock(here, *mine, head));
  CHECK(error_of(two.lock(there, *theirs, head)) == EAGAIN);
  const LockRequest found = must(two.test_lock(there, *theirs, head));
  CHECK(found.type == Type::kExclusive);
  CHECK(found.start == 0);
  CHECK(found.end == 9);
  CHECK(found.process == 0);
  must(two.lock(there, *theirs, tail));
  const LockRequest behind = must(one.test_lock(here, *mine, tail));
  CHECK(behind.start == 10);
  CHECK(behind.end == UINT64_MAX);
  // They meet neither each other here nor record locks.
  must(one.lock(here, *mine, flock));
  CHECK(error_of(two.lock(there, *theirs, flock)) == EAGAIN);
  must(one.lock(here, *mine, unlocked(flock)));
  must(two.lock(there, *theirs, flock));
  must(one.lock(here, *mine, unlocked(head)));
  must(two.lock(there, *theirs, head));
  CHECK(must(one.test_lock(here, *mine, head)).type == Type::kExclusive);

  // A shared one is everybody's.
  LockRequest shared = head;
  shared.type = Type::kShared;
  must(two.lock(there, *theirs, shared));
  must(one.lock(here, *mine, shared));
  CHECK(error_of(one.lock(here, *mine, head)) == EAGAIN);

  // It ends with any close by the process, and with the open file.
  auto another = must(two.open(there, "/file", {O_RDONLY}, 0));
  must(two.close(there, std::move(another)));
  must(one.lock(here, *mine, head));
  CHECK(error_of(one.lock(here, *mine, flock)) == EAGAIN);
  must(two.close(there, std::move(theirs)));
  must(one.lock(here, *mine, flock));
  must(one.lock(here, *mine, tail));

  auto only = must(alone.open(there, "/file", {O_RDWR}, 0));
  must(alone.lock(there, *only, flock));
  must(alone.close(there, std::move(only)));
  must(one.close(here, std::move(mine)));
  for (Filesystem<Ceph>* each : {&one, &two, &alone}) CHECK(each->stop().ok());
}

TEST_CASE("a file that was read and closed is in nobody's way") {
  const std::string directory = fresh_directory();
  Started one(cluster_config(directory));
  Started two(second_client_config(directory));
  write_file(one.service, one.context, one.root, "file", "first");
  const auto read = [](Started& fs) {
    const auto node = must(fs.service.lookup(fs.context, fs.root, "file")).node;
    auto file = must(fs.service.open(fs.context, node, {O_RDONLY})).file;
    std::string got(20, '\0');
    got.resize(must(fs.service.read(fs.context, file, 0, std::as_writable_bytes(std::span(got)))));
    must(fs.service.close(fs.context, file));
    return got;
  };
  for (int i = 0; i < 3; ++i) CHECK(read(one) == "first");
  CHECK(read(two) == "first");
  const auto theirs = must(two.service.lookup(two.context, two.root, "file")).node;
  auto writer = must(two.service.open(two.context, theirs, {O_RDWR | O_TRUNC})).file;
  CHECK(read(one).empty());
  must(two.service.write(two.context, writer, 0, bytes_of("second")));
  CHECK(read(one) == "second");
  CHECK(read(two) == "second");
  must(two.service.close(two.context, writer));
  must(two.service.unlink(two.context, two.root, "file"));
  CHECK(error_of(one.service.lookup(one.context, one.root, "file")) == ENOENT);
  write_file(two.service, two.context, two.root, "file", "third");
  CHECK(read(one) == "third");
  // A lock does not stay.
  auto locked = must(one.service.open(one.context,
                                      must(one.service.lookup(one.context, one.root, "file")).node,
                                      {O_RDONLY}))
                    .file;
  must(one.service.lock(one.context, locked, 1, {.type = LockRequest::Type::kShared}));
  must(one.service.close(one.context, locked));
  auto free =
      must(two.service.open(two.context,
                            must(two.service.lookup(two.context, two.root, "file")).node, {O_RDWR}))
          .file;
  must(two.service.lock(two.context, free, 1, {.type = LockRequest::Type::kExclusive}));
  must(two.service.close(two.context, free));
}

TEST_CASE("a node and a file that outlive their instance are dropped in peace") {
  Ceph::Node node;
  Ceph::File file;
  {
    Started fs(second_client_config(fresh_directory()));
    write_file(fs.service, fs.context, fs.root, "file", "x");
    node = must(fs.service.lookup(fs.context, fs.root, "file")).node;
    file = must(fs.service.open(fs.context, node, {O_RDWR})).file;
  }
  file.reset();
  node.reset();
}

TEST_CASE("what is mounted bounds what can be named") {
  const std::string directory = fresh_directory();
  {
    Started fs(cluster_config(directory));
    must(fs.service.mkdir(fs.context, fs.root, "inner", {.mode = 0755}));
  }
  Ceph::Config config = cluster_config(directory + "/inner/");
  config.root = directory + "/";
  {
    Started fs(config);
    CHECK(must(fs.service.staging(fs.context, Staging::kDrafts)) != nullptr);
    CHECK(has(fs.service.place(), directory + "/inner"));
  }
  config.directory = "/";
  CHECK(has(failure_of(config), "not below " + directory));
  config.directory = directory + "x";
  CHECK(has(failure_of(config), "not below " + directory));
  config.root = "/nowhere";
  config.directory = "/nowhere";
  CHECK(has(failure_of(config), "mounting /nowhere: No such file or directory"));
}

TEST_CASE("what is wrong is said with the remedy, and never with a key") {
  const ScratchDirectory scratch;
  CHECK(has(failure_of(cluster_config("/gone")), "/gone: No such file or directory (make it"));
  CHECK(has(failure_of(cluster_config("gone")), "begin it with '/'"));
  Ceph::Config config = cluster_config("/");
  config.conf_file = "/nothing.conf";
  CHECK(has(failure_of(config), "/nothing.conf: No such file or directory (name the cluster's"));
  config = cluster_config("/");
  config.client = "nobody";
  CHECK(has(failure_of(config), "client.nobody: "));
  config = cluster_config("/");
  config.key_file = scratch.path() + "/none";
  CHECK(has(failure_of(config), "/none: No such file or directory"));
  constexpr std::string_view kSecret = "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==";
  for (const std::string& text :
       {std::string(kSecret), "[client.admin]\n key = " + std::string(kSecret) + "\n"}) {
    config.key_file = scratch.path() + "/wrong";
    std::ofstream(config.key_file, std::ios::trunc) << text;
    const std::string told = failure_of(config);
    CAPTURE(told);
    CHECK(told.find("client.admin: ") != std::string::npos);
    CHECK(told.find(kSecret) == std::string::npos);
  }
}

}  // namespace
}  // namespace libservices::testing
