// SPDX-License-Identifier: Apache-2.0
//
// Access control lists inside the process: when a stack is asked for them, and what storage makes of
// them by itself.

#include <sys/xattr.h>

#include "libservices/filesystem.h"
#include "libservices/layers/forwarding.h"
#include "tests/filesystem/lists.h"

namespace libservices::testing {
namespace {

// Counts how often the stack is asked for an attribute.
struct Counted {
  static inline int questions = 0;
  static inline std::int64_t age = 0;  // seconds by which all seems older
  static constexpr bool passes(Operation) { return true; }
  template <class Call>
  auto operator()(Operation operation, const Context&, Call&& call) {
    questions += operation == Operation::getxattr ? 1 : 0;
    auto answer = call();
    using Value = typename decltype(answer)::value_type;
    if constexpr (std::is_same_v<Value, Attributes>) {
      if (answer.ok()) answer->ctime.seconds -= age;
    } else if constexpr (requires { answer->attributes; }) {
      if (answer.ok()) answer->attributes.ctime.seconds -= age;
    }
    return answer;
  }
};

struct Asked : Forwarding<Memory, Counted> {
  using Forwarding::Forwarding;
  static inline Coherence kept{.kind = Coherence::Kind::kChangesOnlyThroughMe};
  Coherence coherence() const { return kept; }
};

struct OverAsked {
  static inline FilesystemOf<Asked>* made = nullptr;
  static std::unique_ptr<AnyFilesystem> make() {
    auto fs = std::make_unique<FilesystemOf<Asked>>(Asked::Config{});
    made = fs.get();
    return fs;
  }
};

int questions_of(Fixture<OverAsked>& sut) {
  const int before = Counted::questions;
  for (int i = 0; i < 10; ++i) {
    CHECK(opens(sut, sut.bob, "/d/f", O_RDONLY) == 0);
    CHECK(error_of(sut->stat(sut.bob, "/d/f")) == 0);
    CHECK(error_of(sut->access(sut.bob, "/d/f", R_OK)) == 0);
  }
  return Counted::questions - before;
}

}  // namespace

TEST_CASE("objects without lists are asked for one once, and not at all when they were made here") {
  Asked::kept = {.kind = Coherence::Kind::kChangesOnlyThroughMe};
  Counted::age = 0;
  Fixture<OverAsked> sut;
  sut.mkdir("/d");
  sut.write("/d/f", "text");
  CHECK(questions_of(sut) == 1);  // the root's
  CHECK(questions_of(sut) == 0);
  REQUIRE(set(sut, sut.root, "/d/f", kAccess, with_one(6, {Tags::kUser, 4, kBob}, 4, 4, 0)) == 0);
  CHECK(questions_of(sut) == 1);
  REQUIRE(sut.set_mode(sut.root, "/d/f", 0600) == 0);
  CHECK(opens(sut, sut.bob, "/d/f", O_RDONLY) == EACCES);
}

TEST_CASE("where others change the stack, they are asked again when their ctime has moved") {
  Asked::kept = {.kind = Coherence::Kind::kAskAgain};
  Counted::age = 100;
  Fixture<OverAsked> sut;
  sut.mkdir("/d");
  sut.write("/d/f", "text");
  (void)questions_of(sut);
  CHECK(questions_of(sut) == 0);

  // Behind the filesystem's back.
  Asked& stack = OverAsked::made->filesystem().stack();
  auto directory = stack.lookup(sut.root, stack.root(sut.root)->node, "d");
  REQUIRE(directory.ok());
  auto file = stack.lookup(sut.root, directory->node, "f");
  REQUIRE(file.ok());
  const auto list = with_one(6, {Tags::kUser, 0, kBob}, 4, 4, 4);
  REQUIRE(stack.setxattr(sut.root, file->node, kAccess, list, XattrMode::kCreateOrReplace).ok());
  CHECK(opens(sut, sut.bob, "/d/f", O_RDONLY) == EACCES);
  REQUIRE(stack.removexattr(sut.root, file->node, kAccess).ok());
  CHECK(opens(sut, sut.bob, "/d/f", O_RDONLY) == 0);

  // What has changed just now may do so again without a sign of it.
  Counted::age = 0;
  CHECK(questions_of(sut) > 0);
  CHECK(questions_of(sut) > 0);
}

namespace {

// Storage on which no list can be set any more.
struct Refusing : Forwarding<Memory> {
  using Forwarding::Forwarding;
  static inline int error = 0;
  Result<void> setxattr(const Context& context, const Node& node, std::string_view name,
                        std::span<const std::byte> value, XattrMode mode) {
    if (error != 0) return Errno{error};
    return Forwarding::setxattr(context, node, name, value, mode);
  }
};

}  // namespace

TEST_CASE("what cannot have the list that it inherits is not made, or lets nobody else in") {
  FilesystemOf<Refusing> fs(Refusing::Config{});
  REQUIRE(fs.start().ok());
  const Context root;
  Refusing::error = 0;
  const auto list = with_one(7, {Tags::kUser, 7, kBob}, 1, 7, 4);
  REQUIRE(fs.setxattr(root, "/", kDefault, list, XattrMode::kCreate).ok());
  Refusing::error = ENOSPC;
  CHECK(error_of(fs.mkdir(root, "/d", 0777)) == ENOSPC);
  CHECK(error_of(fs.open(root, "/f", {O_CREAT | O_WRONLY}, 0666)) == ENOSPC);
  CHECK(error_of(fs.stat(root, "/d")) == ENOENT);
  CHECK(error_of(fs.stat(root, "/f")) == ENOENT);
  Refusing::error = EOPNOTSUPP;
  REQUIRE(error_of(fs.mkdir(root, "/d", 0777)) == 0);
  CHECK(fs.stat(root, "/d")->permissions() == 0714);  // the owning group's bits, not the mask
  REQUIRE(fs.stop().ok());
}

TEST_CASE("a list comes back as it was, and other bytes are none") {
  const auto value = with_one(6, {Tags::kGroup, 7, kBob}, 4, 6, 0);
  auto list = AccessList::parse(value);
  REQUIRE(list.ok());
  CHECK(list->is_valid());
  CHECK(list->encode() == value);
  CHECK(list->mode() == 0660);
  CHECK(list->narrow(S_IFREG | 0750) == (S_IFREG | 0640));
  CHECK(list->mode() == 0640);
  CHECK(error_of(AccessList::parse(std::span(value).first(3))) == EINVAL);
  CHECK(error_of(AccessList::parse(std::span(value).first(11))) == EINVAL);
  CHECK(AccessList::parse(std::span(value).first(4))->empty());
  auto other = value;
  other[4] = std::byte{0x40};
  CHECK(error_of(AccessList::parse(other)) == EINVAL);
}

TEST_CASE("what a host's directory gives to its own does not come into staging") {
  if (!is_root()) {
    MESSAGE("SKIPPED: only root makes other users' files");
    return;
  }
  const std::string around = fresh_directory();
  const auto list = with_one(7, {Tags::kUser, 7, kBob}, 7, 7, 7);
  if (::setxattr(around.c_str(), std::string(kDefault).c_str(), list.data(), list.size(), 0) != 0) {
    MESSAGE("SKIPPED: the host's filesystem has no access control lists");
    return;
  }
  for (const char* name : {"/upper", "/lower"}) {
    REQUIRE(::mkdir((around + name).c_str(), 0755) == 0);
    for (const std::string_view kind : AccessList::kNames) {
      REQUIRE(::removexattr((around + name).c_str(), std::string(kind).c_str()) == 0);
    }
  }
  Union<Local, Local>::Config config;
  config.upper.directory = around + "/upper";
  config.lowers.push_back({.directory = around + "/lower", .work = {}});
  FilesystemOf<Union<Local, Local>> fs(std::move(config));
  const Context root;
  for (const char* name : {"file", "copied"}) {
    const std::string path = around + "/lower/" + name;
    REQUIRE(::mknod(path.c_str(), S_IFREG | 0640, 0) == 0);
  }
  REQUIRE(fs.start().ok());
  REQUIRE(error_of(fs.unlink(root, "/file")) == 0);
  REQUIRE(error_of(fs.mkdir(root, "/file", 0750)) == 0);  // in the place of a whiteout
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = 0604;
  REQUIRE(error_of(fs.setattr(root, "/copied", changes)) == 0);
  for (const char* name : {"/file", "/copied"}) {
    for (const std::string_view kind : AccessList::kNames) {
      CHECK(error_of(fs.getxattr(root, name, kind, {})) == ENODATA);
    }
  }
  CHECK(fs.stat(root, "/file")->permissions() == 0750);
  CHECK(fs.stat(root, "/copied")->permissions() == 0604);
  REQUIRE(fs.stop().ok());
}

TEST_CASE("copies keep the lists of a lower") {
  using Stack = Union<Memory, Memory>;
  Stack::Config config;
  config.lowers.resize(1);
  FilesystemOf<Stack> fs(std::move(config));
  REQUIRE(fs.start().ok());
  const Context root;
  Stack& stack = fs.filesystem().stack();
  Memory& lower = stack.lower(0);
  auto top = lower.root(root);
  REQUIRE(top.ok());
  auto directory = lower.mkdir(root, top->node, "d", {.mode = 0770});
  REQUIRE(directory.ok());
  const auto access = with_one(7, {Tags::kUser, 7, kBob}, 5, 7, 0);
  for (const std::string_view kind : AccessList::kNames) {
    REQUIRE(lower.setxattr(root, directory->node, kind, access, XattrMode::kCreate).ok());
  }
  Context bob;
  bob.caller = {kBob, kBob, {}};
  // Makes the directory in the upper, and something in it.
  auto file = fs.open(bob, "/d/f", {O_CREAT | O_RDWR}, 0666);
  REQUIRE(file.ok());
  CHECK(error_of(fs.close(bob, *std::move(file))) == 0);
  std::vector<std::byte> room(100);
  for (const std::string_view kind : AccessList::kNames) {
    CHECK(*fs.getxattr(root, "/d", kind, room) == access.size());
    CHECK(std::equal(access.begin(), access.end(), room.begin()));
  }
  CHECK(*fs.getxattr(root, "/d/f", kAccess, room) == access.size());
  CHECK(fs.stat(root, "/d/f")->permissions() == 0660);
  REQUIRE(fs.stop().ok());
}

}  // namespace libservices::testing
