// SPDX-License-Identifier: Apache-2.0
//
// What `Filesystem` allows on objects whose owner or group is unmapped. SOURCE: the answers of
// Linux 6.18 on an idmapped mount of tmpfs, which tests/differential compares at random.
#include "libservices/layers/id_map.h"

#include <utility>

#include "libservices/filesystem_of.h"
#include "libservices/layers/shared.h"
#include "libservices/sources/memory.h"
#include "tests/filesystem/fixture.h"

namespace libservices::testing {
namespace {

using Mapped = IdMap<Shared<Memory>>;

// Stored 100000 to 165535 are 0 to 65535, so 65534 is a user too. In the sticky directory "/" lie
// files and "/both", a directory, that are stored with other owners.
struct OverForeign {
  static std::unique_ptr<AnyFilesystem> make() {
    auto memory = share<Memory>({});
    Memory& below = memory->service;
    const Context context;
    const auto root = below.root(context)->node;
    AttributeChanges changes;
    changes.which = AttributeChanges::kUid | AttributeChanges::kGid | AttributeChanges::kMode;
    changes.uid = changes.gid = 100000;
    changes.mode = 01777;
    REQUIRE(below.setattr(context, root, changes).ok());
    REQUIRE(below.mkdir(context, root, "both", {.mode = 0777, .uid = 7, .gid = 7}).ok());
    for (const auto& [name, fresh] :
         {std::pair{"private", NewNode{.mode = 0700, .uid = 7, .gid = 7}},
          {"public", NewNode{.mode = 0606, .uid = 7, .gid = 7}},
          {"group", NewNode{.mode = 0660, .uid = 101000, .gid = 7}},
          {"user", NewNode{.mode = 0660, .uid = 7, .gid = 101000}}}) {
      REQUIRE(below.create(context, root, name, fresh, {O_WRONLY}).ok());
    }
    return std::make_unique<FilesystemOf<Mapped>>(Mapped::Config{.lower = {.instance = memory},
                                                                 .uids = {{100000, 0, 65536}},
                                                                 .gids = {{100000, 0, 65536}},
                                                                 .squash_uid = {},
                                                                 .squash_gid = {}});
  }
};

class UnmappedTest : protected Fixture<OverForeign> {
 protected:
  int open_error(const Context& who, const char* path, int flags) {
    auto file = fs().open(who, path, {flags}, 0644);
    if (!file.ok()) return error_of(file);
    return error_of(fs().close(who, *std::move(file)));
  }
  // alice is 1000, whose id one file has as its owner and one as its group.
  Context nobody = caller(65534, 65534, {});
};

TEST_CASE_FIXTURE(UnmappedTest, "nobody has the rights of an unmapped owner or group") {
  CHECK(stat("/private").uid == 65534);
  for (const Context* who : {&root, &nobody, &alice}) {
    CHECK(open_error(*who, "/private", O_RDONLY) == EACCES);
    CHECK(open_error(*who, "/public", O_RDONLY) == 0);
    CHECK(open_error(*who, "/group", O_RDONLY) == (who == &alice ? 0 : EACCES));
    CHECK(open_error(*who, "/user", O_RDONLY) == (who == &alice ? 0 : EACCES));
    CHECK(error_of(fs().access(*who, "/private", X_OK)) == EACCES);
    CHECK(error_of(fs().stat(*who, "/both/none")) == ENOENT);
  }
}

TEST_CASE_FIXTURE(UnmappedTest, "nobody changes what has an unmapped owner or group") {
  using A = AttributeChanges;
  for (const Context* who : {&root, &nobody, &alice}) {
    CHECK(open_error(*who, "/both/new", O_CREAT | O_WRONLY) == EACCES);
    CHECK(error_of(fs().mkdir(*who, "/both/new", 0755)) == EACCES);
    CHECK(error_of(fs().rmdir(*who, "/both")) == EOVERFLOW);
    for (const char* path : {"/private", "/public", "/group", "/user"}) {
      CAPTURE(path);
      CHECK(open_error(*who, path, O_WRONLY) == EACCES);
      CHECK(error_of(fs().access(*who, path, W_OK)) == EACCES);
      CHECK(set_size(*who, path, 0) == EACCES);
      CHECK(set_mode(*who, path, 0777) == EOVERFLOW);
      A times;
      times.which = A::kAtime | A::kMtime;
      CHECK(error_of(fs().setattr(*who, path, times)) == EOVERFLOW);
      times.which = A::kAtimeNow | A::kMtimeNow;
      const bool owner = std::string_view(path) == "/group" && who != &nobody;
      CHECK(error_of(fs().setattr(*who, path, times)) == (owner ? EOVERFLOW : EACCES));
      CHECK(error_of(fs().setxattr(*who, path, "user.a", {}, XattrMode::kCreate)) == EPERM);
      CHECK(error_of(fs().removexattr(*who, path, "user.a")) == EPERM);
      CHECK(error_of(fs().link(*who, path, "/link")) == EOVERFLOW);
      CHECK(error_of(fs().rename(*who, path, "/other", RenameMode::kReplace)) == EOVERFLOW);
      CHECK(error_of(fs().unlink(*who, path)) == EOVERFLOW);
    }
  }
  write("/mine", "text");
  CHECK(error_of(fs().rename(root, "/mine", "/public", RenameMode::kReplace)) == EOVERFLOW);
}

TEST_CASE_FIXTURE(UnmappedTest, "a superuser gives it an owner, and then it is like any other") {
  using A = AttributeChanges;
  const auto give = [&](const Context& who, const char* path, std::uint32_t which) {
    A changes;
    changes.which = which;
    changes.uid = changes.gid = 5;
    return error_of(fs().setattr(who, path, changes));
  };
  CHECK(give(root, "/private", A::kUid) == EOVERFLOW);
  CHECK(give(root, "/private", A::kGid) == EOVERFLOW);
  CHECK(give(nobody, "/private", A::kUid | A::kGid) == EPERM);
  CHECK(give(root, "/group", A::kUid | A::kGid) == EPERM);  // the user is not his to take
  CHECK(give(root, "/group", A::kGid) == 0);
  CHECK(give(root, "/user", A::kUid) == 0);
  CHECK(give(root, "/private", A::kUid | A::kGid) == 0);
  for (const char* path : {"/private", "/group", "/user"}) {
    CAPTURE(path);
    CHECK(stat(path).unmapped == 0);
    CHECK(open_error(root, path, O_RDWR) == 0);
    CHECK(set_mode(root, path, 0600) == 0);
    CHECK(error_of(fs().unlink(root, path)) == 0);
  }
}

TEST_CASE_FIXTURE(UnmappedTest, "who has no stored id makes nothing") {
  const Context outside = caller(70000, 70000, {});
  CHECK(open_error(outside, "/new", O_CREAT | O_WRONLY) == EOVERFLOW);
  CHECK(error_of(fs().mkdir(outside, "/new", 0755)) == EOVERFLOW);
  CHECK(error_of(fs().symlink(outside, "to", "/new")) == EOVERFLOW);
  CHECK(set_owner(root, "/", 70000, 0) == EOVERFLOW);
  CHECK(open_error(outside, "/public", O_RDONLY) == 0);
}

}  // namespace
}  // namespace libservices::testing
