// SPDX-License-Identifier: Apache-2.0
//
// The rules of IdMap beside the contract: which id becomes which, and what cannot be.
#include "libservices/layers/id_map.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "libservices/layers/shared.h"
#include "libservices/layers/subtree.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/instance.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

using C = AttributeChanges;
using Mapped = IdMap<Shared<Memory>>;

const Context kContext;

AttributeChanges owners(std::uint32_t which, std::uint32_t uid, std::uint32_t gid) {
  AttributeChanges changes;
  changes.which = which;
  changes.uid = uid;
  changes.gid = gid;
  return changes;
}

// Memory with "file" of 5:6 and "foreign" of 70000:70000, and the layer over it.
class IdMapTest {
 protected:
  IdMapTest() {
    must(below().create(kContext, below_root(), "file", {.mode = 0644, .uid = 5, .gid = 6},
                        {O_WRONLY}));
    must(below().create(kContext, below_root(), "foreign",
                        {.mode = 0600, .uid = 70000, .gid = 70000}, {O_WRONLY}));
  }

  // Over ids of which the container has 65536; those of its groups come in two parts.
  Mapped container() {
    return make({.lower = {},
                 .uids = {{0, 300000, 65536}},
                 .gids = {{1000, 1000, 1}, {0, 400000, 1000}},
                 .squash_uid = {},
                 .squash_gid = {}});
  }
  Mapped squashed() {
    return make({.lower = {}, .uids = {}, .gids = {}, .squash_uid = 7, .squash_gid = 8});
  }
  Mapped make(Mapped::Config config) {
    config.lower.instance = memory_;
    return Mapped(std::move(config));
  }

  Memory& below() { return memory_->service; }
  Memory::Node below_root() { return must(below().root(kContext)).node; }
  Attributes stored(std::string_view name) {
    return must(below().lookup(kContext, below_root(), name)).attributes;
  }

  std::shared_ptr<SharedInstance<Memory>> memory_ = share<Memory>({});
};

void check_owner(const Attributes& seen, std::uint32_t uid, std::uint32_t gid,
                 std::uint32_t unmapped = 0, int line = __builtin_LINE()) {
  INFO("called in line ", line);
  CHECK(seen.uid == uid);
  CHECK(seen.gid == gid);
  CHECK(seen.unmapped == unmapped);
}

TEST_CASE("ranges map both ways, at their ends too") {
  const IdMapping mapping({{1000, 50, 2}, {0, 300000, 1000}, {4294967290, 7, 5}});
  REQUIRE(mapping.check("uid").ok());
  for (const IdRange& pair :
       {IdRange{0, 300000, 1}, IdRange{999, 300999, 1}, IdRange{1000, 50, 1}, IdRange{1001, 51, 1},
        IdRange{4294967290, 7, 1}, IdRange{4294967294, 11, 1}}) {
    CAPTURE(pair.stored);
    CHECK(mapping.shown(pair.stored) == pair.shown);
    CHECK(mapping.stored(pair.shown) == pair.stored);
  }
  for (const std::uint32_t id : {1002U, 4294967289U, 4294967295U}) CHECK_FALSE(mapping.shown(id));
  for (const std::uint32_t id : {0U, 6U, 12U, 52U, 299999U, 301000U, 4294967295U}) {
    CHECK_FALSE(mapping.stored(id));
  }
  CHECK(IdMapping().shown(12) == 12U);
  CHECK(IdMapping().stored(4294967294) == 4294967294U);
}

TEST_CASE_FIXTURE(IdMapTest, "ranges that cannot be are refused at the start, with the remedy") {
  const auto start = [&](std::vector<IdRange> uids, std::vector<IdRange> gids,
                         std::optional<std::uint32_t> squash_gid = std::nullopt) {
    Mapped service = make({.lower = {},
                           .uids = std::move(uids),
                           .gids = std::move(gids),
                           .squash_uid = {},
                           .squash_gid = squash_gid});
    const absl::Status started = service.start();
    CHECK(started.ok() != absl::IsInvalidArgument(started));
    return std::string(started.message());
  };
  CHECK(start({{0, 1, 1}, {1, 0, 1}}, {}).empty());
  CHECK(start({{0, 1, 0}}, {}) ==
        "idmap: uid: the range 0:1:0 has no ids (its last number is how many it has)");
  CHECK(start({}, {{0, 10, 10}, {9, 100, 1}}) ==
        "idmap: gid: the ranges 0:10:10 and 9:100:1 overlap: stored 9 is in both (make them "
        "apart)");
  CHECK(start({{0, 10, 10}, {100, 5, 6}}, {}) ==
        "idmap: uid: the ranges 100:5:6 and 0:10:10 overlap: shown 10 is in both (make them "
        "apart)");
  CHECK(start({{0, 4294967290, 6}}, {}) ==
        "idmap: uid: the range 0:4294967290:6 goes beyond the last id, 4294967294 (make it "
        "smaller)");
  CHECK(start({{4294967295, 0, 1}}, {}).find("beyond the last id") != std::string::npos);
  CHECK(start({}, {{0, 0, 1}}, 5).find("keep one of both") != std::string::npos);
  CHECK(start({}, {}, 4294967295).find("4294967295 is no id") != std::string::npos);
}

TEST_CASE_FIXTURE(IdMapTest, "every answer with attributes shows owners as they are mapped") {
  Mapped service = container();
  REQUIRE(service.start().ok());
  const auto root = must(service.root(kContext));
  check_owner(root.attributes, 300000, 400000);
  const auto staging = must(service.staging(kContext, Staging::kDrafts));
  check_owner(must(service.getattr(kContext, staging)), 300000, 400000);
  const auto found = must(service.lookup(kContext, root.node, "file"));
  check_owner(found.attributes, 300005, 400006);
  check_owner(must(service.getattr(kContext, found.node)), 300005, 400006);
  check_owner(must(service.open(kContext, found.node, {O_RDONLY})).attributes, 300005, 400006);
  check_owner(must(service.link(kContext, found.node, root.node, "link")).attributes, 300005,
              400006);
  auto listing = must(service.open(kContext, root.node, {O_RDONLY | O_DIRECTORY}));
  std::size_t entries = 0;
  must(service.readdir(kContext, listing.file, 0, Listing::kAttributes, [&](const DirEntry& entry) {
    REQUIRE(entry.attributes != nullptr);
    const bool foreign = entry.name == "foreign";
    check_owner(*entry.attributes, foreign ? 65534 : 300005, foreign ? 65534 : 400006,
                foreign ? 3 : 0);
    return ++entries != 3;
  }));
  CHECK(entries == 3);
  CHECK(service.stop().ok());
}

TEST_CASE_FIXTURE(IdMapTest, "what is made is stored with the ids behind those of its maker") {
  Mapped service = container();
  const auto root = must(service.root(kContext)).node;
  const NewNode fresh{.mode = 0700, .uid = 300001, .gid = 1000, .special_device = 0};
  NewNode fifo = fresh;
  fifo.mode |= S_IFIFO;
  check_owner(must(service.create(kContext, root, "a", fresh, {O_RDWR})).attributes, 300001, 1000);
  check_owner(must(service.tmpfile(kContext, root, fresh, {O_RDWR})).attributes, 300001, 1000);
  check_owner(must(service.mkdir(kContext, root, "b", fresh)).attributes, 300001, 1000);
  check_owner(must(service.symlink(kContext, root, "c", "to", fresh)).attributes, 300001, 1000);
  check_owner(must(service.mknod(kContext, root, "d", fifo)).attributes, 300001, 1000);
  for (const char* name : {"a", "b", "c", "d"}) check_owner(stored(name), 1, 1000);
}

TEST_CASE_FIXTURE(IdMapTest, "nothing is made by ids that have no stored one") {
  Mapped service = container();
  const auto root = must(service.root(kContext)).node;
  for (const NewNode& fresh : {NewNode{.mode = 0700, .uid = 5, .gid = 1000},
                               NewNode{.mode = 0700, .uid = 300000, .gid = 1001},
                               NewNode{.mode = 0700, .uid = 65534, .gid = 65534}}) {
    NewNode fifo = fresh;
    fifo.mode |= S_IFIFO;
    CHECK(error_of(service.create(kContext, root, "a", fresh, {O_RDWR})) == EOVERFLOW);
    CHECK(error_of(service.tmpfile(kContext, root, fresh, {O_RDWR})) == EOVERFLOW);
    CHECK(error_of(service.mkdir(kContext, root, "a", fresh)) == EOVERFLOW);
    CHECK(error_of(service.symlink(kContext, root, "a", "to", fresh)) == EOVERFLOW);
    CHECK(error_of(service.mknod(kContext, root, "a", fifo)) == EOVERFLOW);
  }
  CHECK(error_of(service.lookup(kContext, root, "a")) == ENOENT);
}

TEST_CASE_FIXTURE(IdMapTest, "setattr maps the owners that it is given, and no others") {
  Mapped service = container();
  const auto root = must(service.root(kContext)).node;
  const auto file = must(service.lookup(kContext, root, "file")).node;
  check_owner(must(service.setattr(kContext, file, owners(C::kUid, 300009, 9))), 300009, 400006);
  check_owner(stored("file"), 9, 6);
  check_owner(must(service.setattr(kContext, file, owners(C::kGid, 9, 1000))), 300009, 1000);
  check_owner(stored("file"), 9, 1000);
  CHECK(error_of(service.setattr(kContext, file, owners(C::kUid, 9, 1000))) == EOVERFLOW);
  CHECK(error_of(service.setattr(kContext, file, owners(C::kGid, 300009, 9))) == EOVERFLOW);
  CHECK(error_of(service.setattr(kContext, file, owners(C::kUid | C::kGid, 300009, 9))) ==
        EOVERFLOW);
  check_owner(stored("file"), 9, 1000);
  const auto foreign = must(service.lookup(kContext, root, "foreign")).node;
  check_owner(must(service.setattr(kContext, foreign, owners(C::kGid, 0, 400000))), 65534, 400000,
              Attributes::kUidUnmapped);
}

TEST_CASE_FIXTURE(IdMapTest, "an id that one layer has no counterpart for has none above") {
  using Twice = IdMap<Mapped>;
  Twice service({.lower = {.lower = {.instance = memory_},
                           .uids = {{0, 300000, 65536}},
                           .gids = {{0, 300000, 65536}},
                           .squash_uid = {},
                           .squash_gid = {}},
                 .uids = {{65534, 1, 1}, {300000, 0, 10}},
                 .gids = {},
                 .squash_uid = {},
                 .squash_gid = {}});
  const auto root = must(service.root(kContext)).node;
  check_owner(must(service.lookup(kContext, root, "file")).attributes, 5, 300006);
  check_owner(must(service.lookup(kContext, root, "foreign")).attributes, 65534, 65534, 3);
}

TEST_CASE_FIXTURE(IdMapTest, "a squash shows one id, stores that of the maker, ignores chown") {
  Mapped service = squashed();
  const auto root = must(service.root(kContext)).node;
  const auto file = must(service.lookup(kContext, root, "file"));
  check_owner(file.attributes, 7, 8);
  const NewNode fresh{.mode = 0644, .uid = 1000, .gid = 1001, .special_device = 0};
  check_owner(must(service.mkdir(kContext, root, "made", fresh)).attributes, 7, 8);
  check_owner(stored("made"), 1000, 1001);
  check_owner(must(service.setattr(kContext, file.node, owners(C::kUid | C::kGid, 1, 1))), 7, 8);
  check_owner(stored("file"), 5, 6);
  AttributeChanges mode = owners(C::kUid | C::kGid | C::kMode, 1, 1);
  mode.mode = 0600;
  CHECK(must(service.setattr(kContext, file.node, mode)).permissions() == 0600);
  check_owner(stored("file"), 5, 6);
}

TEST_CASE_FIXTURE(IdMapTest, "users may be squashed and groups mapped") {
  Mapped service =
      make({.lower = {}, .uids = {}, .gids = {{0, 100, 10}}, .squash_uid = 7, .squash_gid = {}});
  const auto root = must(service.root(kContext)).node;
  const auto file = must(service.lookup(kContext, root, "file"));
  check_owner(file.attributes, 7, 106);
  check_owner(must(service.setattr(kContext, file.node, owners(C::kUid | C::kGid, 1, 101))), 7,
              101);
  check_owner(stored("file"), 5, 1);
  CHECK(error_of(service.setattr(kContext, file.node, owners(C::kGid, 1, 1))) == EOVERFLOW);
}

constexpr std::uint32_t kNobody = 4294967295;
struct AclEntry {
  std::uint16_t tag;
  std::uint16_t permissions;
  std::uint32_t id;
};

// SOURCE: Linux, uapi/linux/posix_acl_xattr.h.
std::vector<std::byte> access_list(std::uint32_t user, std::uint32_t group) {
  const std::uint32_t version = 2;
  const AclEntry entries[] = {{0x01, 6, kNobody}, {0x02, 4, user},    {0x04, 4, kNobody},
                              {0x08, 4, group},   {0x10, 4, kNobody}, {0x20, 0, kNobody}};
  std::vector<std::byte> list(sizeof version + sizeof entries);
  std::memcpy(list.data(), &version, sizeof version);
  std::memcpy(list.data() + sizeof version, entries, sizeof entries);
  return list;
}

template <class S>
std::vector<std::byte> attribute(S& service, const typename S::Node& node, std::string_view name) {
  std::vector<std::byte> value(must(service.getxattr(kContext, node, name, {})));
  CHECK(must(service.getxattr(kContext, node, name, value)) == value.size());
  return value;
}

TEST_CASE_FIXTURE(IdMapTest, "the ids of access control lists are mapped both ways") {
  Mapped service = container();
  const auto root = must(service.root(kContext)).node;
  const auto set = [&](std::string_view name, const std::vector<std::byte>& value) {
    return error_of(service.setxattr(kContext, root, name, value, XattrMode::kCreateOrReplace));
  };
  for (const char* name : {"system.posix_acl_access", "system.posix_acl_default"}) {
    CAPTURE(name);
    CHECK(set(name, access_list(300005, 1000)) == 0);
    CHECK(attribute(below(), below_root(), name) == access_list(5, 1000));
    CHECK(attribute(service, root, name) == access_list(300005, 1000));
    CHECK(set(name, access_list(5, 1000)) == EINVAL);
    CHECK(set(name, access_list(300005, 5)) == EINVAL);
    CHECK(attribute(below(), below_root(), name) == access_list(5, 1000));
    must(
        below().setxattr(kContext, below_root(), name, access_list(5, 70000), XattrMode::kReplace));
    CHECK(attribute(service, root, name) == access_list(300005, kNobody));
    CHECK(set(name, attribute(service, root, name)) == EINVAL);
    std::byte small[4];
    CHECK(error_of(service.getxattr(kContext, root, name, small)) == ERANGE);
  }
  const auto no_list = access_list(300005, 1000);
  CHECK(set("user.list", no_list) == 0);
  CHECK(attribute(below(), below_root(), "user.list") == no_list);
  const std::vector<std::byte> odd(7, std::byte{2});
  CHECK(set("system.posix_acl_access", odd) == 0);  // the storage's to judge
  CHECK(attribute(below(), below_root(), "system.posix_acl_access") == odd);

  Mapped all_one = squashed();
  must(all_one.setxattr(kContext, root, "system.posix_acl_access", access_list(5, 6),
                        XattrMode::kCreateOrReplace));
  CHECK(attribute(below(), below_root(), "system.posix_acl_access") == access_list(5, 6));
  CHECK(attribute(all_one, root, "system.posix_acl_access") == access_list(5, 6));
}

TEST_CASE("a union knows branches that overlap through the layers over them") {
  using Below = IdMap<Subtree<Local>>;
  const ScratchDirectory scratch;
  const auto start = [&](std::string upper, std::string path) {
    Union<Local, Below>::Config config;
    config.upper.directory = scratch.directory(upper);
    auto& subtree = config.lowers.emplace_back().lower;
    subtree.lower.directory = scratch.directory("lower");
    subtree.path = path;
    return Union<Local, Below>(std::move(config)).start();
  };
  (void)scratch.directory("lower/a");
  (void)scratch.directory("lower/b");
  CHECK(start("upper", "a").ok());
  CHECK(start("lower/a", "/b/").ok());
  const absl::Status overlap = start("lower/a", "//a/");
  CHECK(std::string(overlap.message()).find("/lower/a overlap") != std::string::npos);
}

}  // namespace
}  // namespace libservices::testing
