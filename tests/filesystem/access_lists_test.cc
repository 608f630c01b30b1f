// SPDX-License-Identifier: Apache-2.0
//
// Access control lists by the rules that have names; tests/differential compares all of them with
// the kernel's.

#include <array>

#include "tests/filesystem/lists.h"

namespace libservices::testing {
TEST_CASE_TEMPLATE_DEFINE("a list says who may use an object beside its owner", S, list_grants) {
  LIBSERVICES_LISTS_SUT(S);
  sut.write("/f", "text", 0600, &sut.root);
  sut.mkdir("/d", 0700);
  sut.write("/d/f", "text", 0644);
  CHECK(opens(sut, sut.bob, "/f", O_RDONLY) == EACCES);
  REQUIRE(set(sut, sut.root, "/f", kAccess, with_one(6, {Tags::kUser, 6, kBob}, 0, 4, 0)) == 0);
  CHECK(opens(sut, sut.bob, "/f", O_RDONLY) == 0);
  CHECK(opens(sut, sut.bob, "/f", O_RDWR) == EACCES);  // the mask has no w
  CHECK(opens(sut, sut.alice, "/f", O_RDONLY) == EACCES);
  CHECK(sut.stat("/f").permissions() == 0640);  // the group's bits are the mask

  REQUIRE(set(sut, sut.root, "/d", kAccess, with_one(7, {Tags::kGroup, 5, kBobsGroup}, 0, 7, 0)) ==
          0);
  CHECK(error_of(sut->stat(sut.bob, "/d/f")) == 0);
  CHECK(error_of(sut->stat(sut.alice, "/d/f")) == EACCES);
  CHECK(error_of(sut->unlink(sut.bob, "/d/f")) == EACCES);
  CHECK(error_of(sut->access(sut.bob, "/d", R_OK | X_OK)) == 0);
  CHECK(error_of(sut->access(sut.bob, "/d", W_OK)) == EACCES);

  // Who is named is not asked as one of the others, who may search here.
  REQUIRE(set(sut, sut.root, "/d", kAccess, with_one(7, {Tags::kUser, 0, kBob}, 7, 7, 7)) == 0);
  CHECK(error_of(sut->stat(sut.bob, "/d/f")) == EACCES);
  CHECK(error_of(sut->stat(sut.alice, "/d/f")) == 0);
  REQUIRE(error_of(sut->removexattr(sut.root, "/d", kAccess)) == 0);
  CHECK(error_of(sut->stat(sut.bob, "/d/f")) == 0);
}

TEST_CASE_TEMPLATE_DEFINE("the list and the mode agree", S, list_mode) {
  LIBSERVICES_LISTS_SUT(S);
  sut.write("/f", "text", 0664);
  REQUIRE(sut.set_owner(sut.root, "/f", kAlice, kAlice) == 0);
  REQUIRE(set(sut, sut.alice, "/f", kAccess, with_one(6, {Tags::kUser, 7, kBob}, 4, 6, 0)) == 0);
  CHECK(sut.stat("/f").permissions() == 0660);
  REQUIRE(sut.set_mode(sut.alice, "/f", 0715) == 0);
  CHECK(list_of(sut, "/f", kAccess) == std::vector<Entry>{{Tags::kOwner, 7},
                                                          {Tags::kUser, 7, kBob},
                                                          {Tags::kOwningGroup, 4},
                                                          {Tags::kMask, 1},
                                                          {Tags::kOther, 5}});
  CHECK(opens(sut, sut.bob, "/f", O_RDONLY) == EACCES);

  // One that says what a mode can say becomes that mode.
  REQUIRE(set(sut, sut.alice, "/f", kAccess,
              value_of({{Tags::kOwner, 6}, {Tags::kOwningGroup, 4}, {Tags::kOther, 2}})) == 0);
  CHECK(sut.stat("/f").permissions() == 0642);
  CHECK(list_of(sut, "/f", kAccess).empty());

  // Without the list its mask stays: the group's bits.
  REQUIRE(set(sut, sut.alice, "/f", kAccess, with_one(6, {Tags::kUser, 7, kBob}, 0, 7, 0)) == 0);
  REQUIRE(set(sut, sut.alice, "/f", kAccess, {}) == 0);
  CHECK(list_of(sut, "/f", kAccess).empty());
  CHECK(sut.stat("/f").permissions() == 0670);
  CHECK(error_of(sut->removexattr(sut.alice, "/f", kAccess)) == 0);  // as on Linux
}

TEST_CASE_TEMPLATE_DEFINE("what is made begins with its directory's default list", S,
                          list_inherited) {
  LIBSERVICES_LISTS_SUT(S);
  sut.mkdir("/d");
  REQUIRE(sut.set_mode(sut.root, "/d", 0777) == 0);
  sut.write("/d/before", "");
  const auto standard = with_one(7, {Tags::kUser, 6, kBob}, 5, 7, 4);
  REQUIRE(set(sut, sut.root, "/d", kDefault, standard) == 0);
  CHECK(sut.stat("/d").permissions() == 0777);
  sut.alice.umask = 077;  // is not used where there is a default list

  sut.write("/d/f", "", 0666, &sut.alice);
  CHECK(sut.stat("/d/f").permissions() == 0664);
  CHECK(list_of(sut, "/d/f", kAccess) == std::vector<Entry>{{Tags::kOwner, 6},
                                                            {Tags::kUser, 6, kBob},
                                                            {Tags::kOwningGroup, 5},
                                                            {Tags::kMask, 6},
                                                            {Tags::kOther, 4}});
  CHECK(list_of(sut, "/d/f", kDefault).empty());
  CHECK(opens(sut, sut.bob, "/d/f", O_RDWR) == 0);
  CHECK(list_of(sut, "/d/before", kAccess).empty());

  sut.mkdir("/d/d", 0750, &sut.alice);
  CHECK(sut.stat("/d/d").permissions() == 0750);
  CHECK(list_of(sut, "/d/d", kDefault) == list_of(sut, "/d", kDefault));
  sut.write("/d/d/f", "", 0666, &sut.alice);
  CHECK(list_of(sut, "/d/d/f", kAccess).size() == 5);
  REQUIRE(error_of(sut->mknod(sut.alice, "/d/fifo", S_IFIFO | 0666, 0)) == 0);
  CHECK(list_of(sut, "/d/fifo", kAccess).size() == 5);
  REQUIRE(error_of(sut->symlink(sut.alice, "f", "/d/link")) == 0);
  CHECK(error_of(sut->getxattr(sut.root, Location("/d/link", Follow::kNo), kAccess, {})) ==
        EOPNOTSUPP);

  auto nameless = sut->open(sut.alice, "/d", {O_TMPFILE | O_RDWR}, 0600);
  if (nameless.ok()) {
    CHECK(list_of(sut, Location(**nameless), kAccess).size() == 5);
    sut.close(*nameless);
  }

  // A default list that a mode can say leaves a mode alone.
  REQUIRE(set(sut, sut.root, "/d", kDefault,
              value_of({{Tags::kOwner, 7}, {Tags::kOwningGroup, 4}, {Tags::kOther, 0}})) == 0);
  sut.write("/d/plain", "", 0666, &sut.alice);
  CHECK(sut.stat("/d/plain").permissions() == 0640);
  CHECK(list_of(sut, "/d/plain", kAccess).empty());
  REQUIRE(error_of(sut->removexattr(sut.root, "/d", kDefault)) == 0);
  sut.write("/d/after", "", 0666, &sut.alice);
  CHECK(sut.stat("/d/after").permissions() == 0600);

  // In the place of something that was removed, where a union makes things otherwise.
  REQUIRE(set(sut, sut.root, "/d", kDefault, standard) == 0);
  REQUIRE(error_of(sut->unlink(sut.root, "/d/f")) == 0);
  sut.write("/d/f", "", 0666, &sut.alice);
  CHECK(list_of(sut, "/d/f", kAccess).size() == 5);
}

TEST_CASE_TEMPLATE_DEFINE("the owner sets right lists, and nobody others", S, list_rights) {
  LIBSERVICES_LISTS_SUT(S);
  sut.write("/f", "text", 0666);
  sut.mkdir("/d", 0777);
  REQUIRE(error_of(sut->symlink(sut.root, "f", "/link")) == 0);
  REQUIRE(sut.set_owner(sut.root, "/f", kAlice, kAlice) == 0);
  const auto right = with_one(6, {Tags::kUser, 7, kBob}, 4, 6, 0);
  CHECK(set(sut, sut.bob, "/f", kAccess, right) == EPERM);
  CHECK(error_of(sut->removexattr(sut.bob, "/f", kAccess)) == EPERM);
  CHECK(set(sut, sut.alice, "/f", kDefault, right) == EACCES);  // it is no directory
  CHECK(error_of(sut->removexattr(sut.alice, "/f", kDefault)) == 0);
  CHECK(error_of(sut->getxattr(sut.alice, "/f", kDefault, {})) == ENODATA);
  CHECK(set(sut, sut.root, Location("/link", Follow::kNo), kAccess, right) == EOPNOTSUPP);

  CHECK(set(sut, sut.bob, "/f", kDefault,
            with_one(6, {Tags::kUser, 7, AccessList::kNoId}, 4, 6, 0)) == EINVAL);  // before all else

  auto wrong = right;
  wrong.pop_back();
  CHECK(set(sut, sut.alice, "/f", kAccess, wrong) == EINVAL);
  wrong = right;
  wrong[0] = std::byte{3};
  CHECK(set(sut, sut.alice, "/f", kAccess, wrong) == EOPNOTSUPP);
  const std::vector<std::vector<Entry>> invalid{
      {{Tags::kOwner, 7}, {Tags::kOwningGroup, 7}},
      {{Tags::kOwner, 8}, {Tags::kOwningGroup, 7}, {Tags::kOther, 7}},
      {{Tags::kOwner, 7}, {Tags::kUser, 7, kBob}, {Tags::kOwningGroup, 7}, {Tags::kOther, 7}},
      {{Tags::kOwningGroup, 7}, {Tags::kOwner, 7}, {Tags::kOther, 7}},
      {{Tags::kOwner, 7}, {Tags::kOwner, 7}, {Tags::kOwningGroup, 7}, {Tags::kOther, 7}},
      {{Tags::kOwner, 7},
       {Tags::kUser, 7},
       {Tags::kOwningGroup, 7},
       {Tags::kMask, 7},
       {Tags::kOther, 7}}};
  for (const auto& entries : invalid) {
    CHECK(set(sut, sut.alice, "/f", kAccess, value_of(entries)) == EINVAL);
  }
  CHECK(sut.stat("/f").permissions() == 0644);
  CHECK(list_of(sut, "/f", kAccess).empty());

  CHECK(set(sut, sut.alice, "/f", kAccess, right) == 0);
  std::array<char, 100> names{};
  auto size = sut->listxattr(sut.bob, "/f", names);
  REQUIRE(size.ok());
  CHECK(std::string_view(names.data(), *size) == std::string(kAccess) + '\0');
  CHECK(error_of(sut->getxattr(sut.bob, "/f", kAccess,
                               std::as_writable_bytes(std::span(names).first(10)))) == ERANGE);
}

TEST_CASE_TEMPLATE_DEFINE("who is not in the group loses its set-group-id bit", S, list_set_id) {
  LIBSERVICES_LISTS_SUT(S);
  sut.write("/f", "text");
  REQUIRE(sut.set_owner(sut.root, "/f", kAlice, kBobsGroup) == 0);
  REQUIRE(sut.set_mode(sut.root, "/f", 02755) == 0);
  const auto list = with_one(7, {Tags::kUser, 7, kBob}, 5, 7, 5);
  REQUIRE(set(sut, sut.root, "/f", kAccess, list) == 0);
  CHECK(sut.stat("/f").permissions() == 02775);
  REQUIRE(set(sut, sut.alice, "/f", kAccess, list) == 0);
  CHECK(sut.stat("/f").permissions() == 0775);
}

LIBSERVICES_OVER_EVERY_STACK(list_grants);
LIBSERVICES_OVER_EVERY_STACK(list_mode);
LIBSERVICES_OVER_EVERY_STACK(list_inherited);
LIBSERVICES_OVER_EVERY_STACK(list_rights);
LIBSERVICES_OVER_EVERY_STACK(list_set_id);

}  // namespace libservices::testing
