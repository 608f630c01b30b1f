// SPDX-License-Identifier: Apache-2.0

#include "tests/filesystem/stacks.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("owner, group and others have their bits", S, permission_bits) {
  LIBSERVICES_SUT(S);
  sut.write("/f", "text");
  REQUIRE(sut.set_owner(sut.root, "/f", 1000, 2000) == 0);
  auto opens = [&](const Context& who, int flags) {
    return error_of(sut->open(who, "/f", {flags}, 0));
  };
  REQUIRE(sut.set_mode(sut.root, "/f", 0400) == 0);
  CHECK(opens(sut.alice, O_RDONLY) == 0);
  CHECK(opens(sut.alice, O_WRONLY) == EACCES);
  CHECK(opens(sut.bob, O_RDONLY) == EACCES);
  CHECK(opens(sut.root, O_RDWR) == 0);
  REQUIRE(sut.set_mode(sut.root, "/f", 0060) == 0);
  CHECK(opens(sut.alice, O_RDONLY) == EACCES);  // the owner's bits count, not the others'
  CHECK(opens(sut.bob, O_RDWR) == 0);           // by a supplementary group
  REQUIRE(sut.set_mode(sut.root, "/f", 0007) == 0);
  CHECK(opens(sut.bob, O_RDONLY) == EACCES);
  CHECK(error_of(sut->access(sut.alice, "/f", X_OK)) == EACCES);
  CHECK(error_of(sut->access(sut.root, "/f", X_OK)) == 0);
  REQUIRE(sut.set_mode(sut.root, "/f", 0600) == 0);
  CHECK(error_of(sut->access(sut.root, "/f", X_OK)) == EACCES);
  CHECK(error_of(sut->access(sut.alice, "/f", R_OK | W_OK)) == 0);
  CHECK(error_of(sut->access(sut.bob, "/f", F_OK)) == 0);
  CHECK(opens(sut.alice, O_RDONLY | O_TRUNC) == 0);
  CHECK(opens(sut.bob, O_RDONLY | O_NOATIME) == EACCES);
  REQUIRE(sut.set_mode(sut.root, "/f", 0644) == 0);
  CHECK(opens(sut.bob, O_RDONLY | O_NOATIME) == EPERM);
  CHECK(opens(sut.bob, O_RDONLY | O_TRUNC) == EACCES);
}

TEST_CASE_TEMPLATE_DEFINE("every directory on the way must be searchable", S, permission_search) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d", 0700);
  sut.write("/d/f", "text", 0666);
  CHECK(error_of(sut->stat(sut.alice, "/d/f")) == EACCES);
  CHECK(error_of(sut->stat(sut.alice, "/d")) == 0);
  CHECK(error_of(sut->open(sut.alice, "/d", {O_RDONLY | O_DIRECTORY}, 0)) == EACCES);
  REQUIRE(sut.set_mode(sut.root, "/d", 0711) == 0);
  CHECK(error_of(sut->stat(sut.alice, "/d/f")) == 0);
  CHECK(error_of(sut->open(sut.alice, "/d", {O_RDONLY | O_DIRECTORY}, 0)) == EACCES);
  CHECK(error_of(sut->open(sut.alice, "/d/new", {O_CREAT | O_WRONLY}, 0644)) == EACCES);
  CHECK(error_of(sut->unlink(sut.alice, "/d/f")) == EACCES);
  REQUIRE(sut.set_mode(sut.root, "/d", 0777) == 0);
  CHECK(error_of(sut->open(sut.alice, "/d/new", {O_CREAT | O_WRONLY}, 0644)) == 0);
  CHECK(sut.stat("/d/new").uid == 1000);
  CHECK(sut.stat("/d/new").gid == 1000);
}

TEST_CASE_TEMPLATE_DEFINE("the umask and the set-group-id bit shape what is made", S,
                          permission_new) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/open", 0777);
  REQUIRE(sut.set_mode(sut.root, "/open", 0777) == 0);
  sut.alice.umask = 027;
  sut.write("/open/f", "", 0666, &sut.alice);
  CHECK(sut.stat("/open/f").permissions() == 0640);
  sut.mkdir("/open/d", 0777, &sut.alice);
  CHECK(sut.stat("/open/d").permissions() == 0750);

  sut.mkdir("/shared");
  REQUIRE(sut.set_owner(sut.root, "/shared", 0, 2000) == 0);
  REQUIRE(sut.set_mode(sut.root, "/shared", 02777) == 0);
  sut.write("/shared/f", "", 0644, &sut.alice);
  CHECK(sut.stat("/shared/f").gid == 2000);
  sut.mkdir("/shared/d", 0755, &sut.alice);
  CHECK(sut.stat("/shared/d").gid == 2000);
  CHECK((sut.stat("/shared/d").mode & S_ISGID) != 0);
  sut.write("/shared/x", "", 02755, &sut.alice);  // not a member of group 2000
  CHECK((sut.stat("/shared/x").mode & S_ISGID) == 0);
  sut.write("/shared/y", "", 02755, &sut.bob);
  CHECK((sut.stat("/shared/y").mode & S_ISGID) != 0);
}

TEST_CASE_TEMPLATE_DEFINE("a directory that gets another parent must be writable", S,
                          permission_parent) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/open");
  REQUIRE(sut.set_mode(sut.root, "/open", 0777) == 0);
  REQUIRE(sut.set_mode(sut.root, "/", 0777) == 0);
  sut.mkdir("/open/d");
  sut.write("/f", "text");
  sut.write("/open/g", "text");
  const auto rename = [&](const char* from, const char* to, RenameMode mode) {
    return error_of(sut->rename(sut.alice, from, to, mode));
  };
  CHECK(rename("/open/d", "/d", RenameMode::kReplace) == EACCES);
  CHECK(rename("/open/d", "/f", RenameMode::kExchange) == EACCES);
  CHECK(rename("/f", "/open/d", RenameMode::kExchange) == EACCES);
  CHECK(rename("/open/g", "/open/d", RenameMode::kExchange) == 0);
  CHECK(rename("/open/g", "/f", RenameMode::kReplace) == ENOTDIR);  // that is a directory now
}

TEST_CASE_TEMPLATE_DEFINE("a sticky directory protects its entries", S, permission_sticky) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/tmp");
  REQUIRE(sut.set_mode(sut.root, "/tmp", 01777) == 0);
  sut.write("/tmp/hers", "", 0666, &sut.alice);
  sut.write("/tmp/his", "", 0666, &sut.bob);
  CHECK(error_of(sut->unlink(sut.bob, "/tmp/hers")) == EPERM);
  CHECK(error_of(sut->rename(sut.bob, "/tmp/hers", "/tmp/x", RenameMode::kReplace)) == EPERM);
  CHECK(error_of(sut->rename(sut.bob, "/tmp/his", "/tmp/hers", RenameMode::kReplace)) == EPERM);
  CHECK(error_of(sut->rename(sut.bob, "/tmp/his", "/tmp/his2", RenameMode::kReplace)) == 0);
  CHECK(error_of(sut->unlink(sut.alice, "/tmp/hers")) == 0);
  REQUIRE(sut.set_owner(sut.root, "/tmp", 1000, 1000) == 0);
  CHECK(error_of(sut->unlink(sut.alice, "/tmp/his2")) == 0);  // owner of the directory
}

TEST_CASE_TEMPLATE_DEFINE("only the owner changes attributes, only the superuser owners", S,
                          permission_changes) {
  LIBSERVICES_SUT(S);
  sut.write("/f", "text", 0644);
  REQUIRE(sut.set_owner(sut.root, "/f", 1001, 1001) == 0);
  CHECK(sut.set_mode(sut.alice, "/f", 0600) == EPERM);
  CHECK(sut.set_mode(sut.bob, "/f", 0600) == 0);
  CHECK(sut.set_owner(sut.bob, "/f", 1000, 1001) == EPERM);
  CHECK(sut.set_owner(sut.bob, "/f", 1001, 1000) == EPERM);
  CHECK(sut.set_owner(sut.bob, "/f", 1001, 2000) == 0);
  CHECK(sut.set_owner(sut.alice, "/f", 1000, 1000) == EPERM);
  CHECK(sut.set_size(sut.alice, "/f", 0) == EACCES);
  CHECK(sut.set_size(sut.bob, "/f", 2) == 0);
  CHECK(sut.read("/f") == "te");

  AttributeChanges now;
  now.which = AttributeChanges::kAtimeNow | AttributeChanges::kMtimeNow;
  AttributeChanges then;
  then.which = AttributeChanges::kAtime | AttributeChanges::kMtime;
  then.atime = {1'000'000'000, 5, 0};
  then.mtime = {1'000'000'001, 6, 0};
  REQUIRE(sut.set_mode(sut.root, "/f", 0666) == 0);
  CHECK(error_of(sut->setattr(sut.alice, "/f", now)) == 0);
  CHECK(error_of(sut->setattr(sut.alice, "/f", then)) == EPERM);
  CHECK(error_of(sut->setattr(sut.bob, "/f", then)) == 0);
  CHECK(sut.stat("/f").mtime == Timestamp{1'000'000'001, 6, 0});
  CHECK(sut.stat("/f").atime == Timestamp{1'000'000'000, 5, 0});
  REQUIRE(sut.set_mode(sut.root, "/f", 0644) == 0);
  CHECK(error_of(sut->setattr(sut.alice, "/f", now)) == EACCES);
}

TEST_CASE_TEMPLATE_DEFINE("set-id bits do not outlive a change by somebody else", S,
                          permission_set_id) {
  LIBSERVICES_SUT(S);
  auto fresh = [&] {
    sut.write("/f", "text", 0755);
    REQUIRE(sut.set_owner(sut.root, "/f", 1000, 1000) == 0);
    REQUIRE(sut.set_mode(sut.root, "/f", 06777) == 0);
    REQUIRE(sut.stat("/f").permissions() == 06777);
  };
  SUBCASE("a write by a user") {
    fresh();
    auto file = sut.open(sut.bob, "/f", O_WRONLY);
    REQUIRE(sut->write(sut.bob, *file, bytes_of("x")).ok());
    sut.close(std::move(file));
    CHECK(sut.stat("/f").permissions() == 0777);
  }
  SUBCASE("a truncation by a user") {
    fresh();
    CHECK(sut.set_size(sut.bob, "/f", 1) == 0);
    CHECK(sut.stat("/f").permissions() == 0777);
  }
  SUBCASE("a change of the owner, by the superuser too") {
    fresh();
    CHECK(sut.set_owner(sut.root, "/f", 1001, 1001) == 0);
    CHECK(sut.stat("/f").permissions() == 0777);
  }
  SUBCASE("who has the descriptor below, whose writes nobody sees, loses them at once") {
    fresh();
    auto file = sut.open(sut.bob, "/f", O_WRONLY);
    if (sut->backing(sut.bob, *file).ok()) CHECK(sut.stat("/f").permissions() == 0777);
    sut.close(std::move(file));
  }
  SUBCASE("and nobody sets them while a stranger has it") {
    fresh();
    REQUIRE(sut.set_mode(sut.root, "/f", 0777) == 0);
    Context allowed = sut.bob;
    allowed.caller.is_allowed = true;  // to write, which makes him no owner
    for (const Context& who : {sut.bob, allowed}) {
      auto file = sut.open(who, "/f", O_WRONLY);
      if (sut->backing(who, *file).ok()) {
        CHECK(sut.set_mode(sut.root, "/f", 04777) == ETXTBSY);
        CHECK(sut.set_mode(sut.root, "/f", 0666) == 0);
      }
      sut.close(std::move(file));
      CHECK(sut.set_mode(sut.root, "/f", 04777) == 0);
      REQUIRE(sut.set_mode(sut.root, "/f", 0777) == 0);
    }
    auto own = sut.open(sut.alice, "/f", O_WRONLY);
    (void)sut->backing(sut.alice, *own);
    CHECK(sut.set_mode(sut.alice, "/f", 04777) == 0);
    sut.close(std::move(own));
  }
  SUBCASE("a write by the superuser keeps them") {
    fresh();
    auto file = sut.open(sut.root, "/f", O_WRONLY);
    REQUIRE(sut->write(sut.root, *file, bytes_of("x")).ok());
    sut.close(std::move(file));
    CHECK(sut.stat("/f").permissions() == 06777);
  }
}

LIBSERVICES_OVER_EVERY_STACK(permission_bits);
LIBSERVICES_OVER_EVERY_STACK(permission_search);
LIBSERVICES_OVER_EVERY_STACK(permission_new);
LIBSERVICES_OVER_EVERY_STACK(permission_parent);
LIBSERVICES_OVER_EVERY_STACK(permission_sticky);
LIBSERVICES_OVER_EVERY_STACK(permission_changes);
LIBSERVICES_OVER_EVERY_STACK(permission_set_id);

}  // namespace libservices::testing
