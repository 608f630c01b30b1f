// SPDX-License-Identifier: Apache-2.0
//
// Descriptors that are lent for mappings: who gets one, and what can be done with it.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>

#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/host/in_process.h"
#include "tests/support/scratch_directory.h"

namespace libservices::host {
namespace {

using protocol::Operation;

struct Lent {
  int error = 0;
  Descriptor descriptor;
};

Lent map(InProcessClient& client, protocol::Handle handle, bool writes) {
  const Answer answer =
      client.call(Operation::kMap, protocol::MapRequest{handle, writes ? 1U : 0U});
  if (answer.error != 0) return {answer.error, {}};
  const auto number = static_cast<std::uint32_t>(answer.words[0]);
  return {0, client.session().lent.take(number)};
}

std::string path_of(const Descriptor& descriptor) {
  return "/proc/self/fd/" + std::to_string(descriptor.get());
}

// The errno of what a user does with it, in a process of his own; 0: it went well.
int error_of_user(uid_t uid, const std::function<long()>& call) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (uid != 0 && (::setgid(uid) != 0 || ::setuid(uid) != 0)) ::_exit(250);
    ::_exit(call() >= 0 ? 0 : errno);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A service with one more instance, number 2, over a host's directory with the file `f`.
template <class Stack>
struct OverHost {
  explicit OverHost(const std::string& below, typename Stack::Config config) : lower(below + "/f") {
    ::chmod(below.c_str(), 0755);
    std::ofstream(lower) << "content";
    auto filesystem = std::make_unique<FilesystemOf<Stack>>(std::move(config));
    REQUIRE(filesystem->start().ok());
    service.filesystems.push_back({"/mnt/2", "over a host", std::move(filesystem)});
  }
  protocol::Handle open(InProcessClient& client, int flags) {
    const Answer answer =
        client.call(Operation::kOpen,
                    protocol::OpenRequest{.target = InProcessClient::target("/f"),
                                          .flags = static_cast<std::uint32_t>(flags)},
                    "/f", 2);
    REQUIRE(answer.error == 0);
    return answer.words[0];
  }

  const std::string lower;
  InProcessService service;
};

TEST_CASE("a descriptor is lent for what the file is open for, once, and to who has asked") {
  InProcessService service;
  InProcessClient client(service, 0);
  InProcessClient other(service, 0);
  REQUIRE(client.open("/f", O_CREAT | O_RDWR) != 0);
  const auto reads = client.open("/f", O_RDONLY);
  const auto both = client.open("/f", O_RDWR);
  CHECK(map(client, client.open("/f", O_WRONLY), false).error == EACCES);
  CHECK(map(client, client.open("/f", O_PATH), false).error == EBADF);
  CHECK(map(client, client.open("/", O_RDONLY | O_DIRECTORY), false).error == ENODEV);
  CHECK(map(client, reads, true).error == EACCES);
  CHECK(map(client, 12345, false).error == EBADF);
  CHECK(client.call(Operation::kMap, protocol::MapRequest{reads, 2}).malformed);

  const Lent for_reading = map(client, reads, false);
  REQUIRE(for_reading.descriptor.ok());
  CHECK((::fcntl(for_reading.descriptor.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
  const Lent also = map(client, both, false);
  CHECK((::fcntl(also.descriptor.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
  const Lent for_writing = map(client, both, true);
  CHECK((::fcntl(for_writing.descriptor.get(), F_GETFL) & O_ACCMODE) == O_RDWR);

  const auto asked = client.call(Operation::kMap, protocol::MapRequest{reads, 0});
  const auto number = static_cast<std::uint32_t>(asked.words[0]);
  const auto take = [&](InProcessClient& who) {
    const protocol::SocketRequest request{protocol::SocketRequestType::kMapped, 0, 0, number};
    protocol::SocketAnswer answer;
    std::vector<Descriptor> got;
    REQUIRE(service.sessions.message(who.session(), std::as_bytes(std::span(&request, 1)), {},
                                     answer, got));
    return got.empty() ? answer.error : 0;
  };
  CHECK(take(other) == EBADF);
  CHECK(take(client) == 0);
  CHECK(take(client) == EBADF);

  int lent = 0;
  while (client.call(Operation::kMap, protocol::MapRequest{reads, 0}).error == 0 && lent < 1000) {
    ++lent;
  }
  CHECK(lent == 256);
}

TEST_CASE("a service that follows a killed one knows what is mapped") {
  testing::ScratchDirectory scratch;
  const std::string directory = scratch.directory("run");
  const auto next = [&](const std::function<void(KeptFiles&)>& use) {
    KeptFiles kept(directory);
    REQUIRE(kept.start().ok());
    use(kept);
  };
  next([](KeptFiles& kept) {
    CHECK(kept.mapped().objects.empty());
    for (std::uint64_t i = 0; i < 62; ++i) kept.keep_mapped(i + 100);
    for (std::uint64_t i = 0; i < 62; ++i) kept.keep_mapped(i + 100);
  });
  next([](KeptFiles& kept) {
    CHECK(kept.mapped().objects.size() == 62);
    CHECK(kept.mapped().objects.back() == 161);
    CHECK_FALSE(kept.mapped().others);
    kept.keep_mapped(7);
    kept.keep_mapped(8);
  });
  next([](KeptFiles& kept) {
    CHECK(kept.mapped().objects.size() == 62);
    CHECK(kept.mapped().others);
    kept.remove();
  });
  next([](KeptFiles& kept) { CHECK(kept.mapped().objects.empty()); });

  for (const bool all : {false, true}) {
    InProcessService service;
    InProcessClient client(service, 0);
    service.filesystems[0].filesystem->remember_mapped(all ? std::nullopt : std::optional(6UL));
    int mapped = 0;  // in memory numbers are given in their order
    for (const char* path : {"/1", "/2", "/3", "/4", "/5"}) {
      const auto opened = service.filesystems[0].filesystem->open(
          Context{}, Location(path), OpenFlags{O_CREAT | O_RDWR}, 0644);
      REQUIRE(opened.ok());
      mapped += service.filesystems[0].filesystem->is_mapped(**opened) ? 1 : 0;
    }
    CHECK(mapped == (all ? 5 : 1));
    const auto root = service.filesystems[0].filesystem->refer(Context{}, Location("/"));
    CHECK_FALSE(service.filesystems[0].filesystem->is_mapped(*root->file));
  }
}

TEST_CASE("a file in memory cannot be opened anew by who has it to read") {
  if (::geteuid() != 0) {
    MESSAGE("SKIPPED: only root can be another user");
    return;
  }
  InProcessService service;
  InProcessClient root(service, 0);
  InProcessClient user(service, 1000, 1000);
  REQUIRE(root.open("/f", O_CREAT | O_RDWR, 0644) != 0);
  const Lent lent = map(user, user.open("/f", O_RDONLY), false);
  REQUIRE(lent.descriptor.ok());
  CHECK(error_of_user(1000, [&] { return ::open(path_of(lent.descriptor).c_str(), O_RDWR); }) ==
        EACCES);
  // Who may write does not take that from others.
  const Lent writes = map(root, root.open("/f", O_RDWR), true);
  CHECK(::fcntl(writes.descriptor.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW) == -1);
}

// Whether this process may have mounts of its own.
bool has_private_mounts() {
  constexpr unsigned kClone = 1;  // OPEN_TREE_CLONE
  const Descriptor tree(
      static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, "/", kClone | O_CLOEXEC)));
  return tree.ok();
}

TEST_CASE("what is lent to be read is on a read-only mount, whoever its owner is") {
  if (!has_private_mounts()) {
    MESSAGE("SKIPPED: there are no mounts for this user");
    return;
  }
  using Stack = Union<Local, Local>;
  testing::ScratchDirectory scratch;
  for (const char* name : {"upper", "lower"}) scratch.directory(name);
  Stack::Config config;
  config.upper.directory = scratch.directory("upper");
  config.lowers.emplace_back().directory = scratch.directory("lower");
  OverHost<Stack> over(scratch.directory("lower"), std::move(config));
  REQUIRE(::chmod(over.lower.c_str(), 0666) == 0);
  REQUIRE(::chown(over.lower.c_str(), 1000, 1000) == 0);
  struct stat before {};
  REQUIRE(::stat(over.lower.c_str(), &before) == 0);
  for (const uid_t uid : {0U, 1000U, 2000U}) {
    InProcessClient client(over.service, uid, uid);
    const Lent lent = map(client, over.open(client, O_RDONLY), false);
    REQUIRE(lent.descriptor.ok());
    const int fd = lent.descriptor.get();
    char text[8] = "";
    CHECK((::pread(fd, text, 7, 0) == 7 && std::string(text) == "content"));
    int flags = 0;
    const auto fails = [&](const std::function<long()>& call) {
      const int error = error_of_user(uid, call);
      CHECK((error == EROFS || error == EBADF || error == EACCES || error == EPERM ||
             error == EINVAL));
    };
    fails([&] { return ::open(path_of(lent.descriptor).c_str(), O_RDWR); });
    fails([&] { return ::open(path_of(lent.descriptor).c_str(), O_WRONLY | O_TRUNC); });
    fails([&] { return ::truncate(path_of(lent.descriptor).c_str(), 0); });
    fails([&] { return ::ftruncate(fd, 0); });
    fails([&] { return ::fchmod(fd, 0777); });
    fails([&] { return ::fchown(fd, uid, uid); });
    fails([&] { return ::futimens(fd, nullptr); });
    fails([&] { return ::fsetxattr(fd, "user.overlay.redirect", "/x", 2, 0); });
    fails([&] { return ::ioctl(fd, FS_IOC_SETFLAGS, &flags); });
    fails([&] {
      return reinterpret_cast<long>(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, fd, 0)) == -1 ? -1
                                                                                                : 0;
    });
  }
  struct stat after {};
  REQUIRE(::stat(over.lower.c_str(), &after) == 0);
  CHECK((after.st_ctim.tv_sec == before.st_ctim.tv_sec &&
         after.st_ctim.tv_nsec == before.st_ctim.tv_nsec));
}

TEST_CASE("without such a mount nothing is lent by which its holder could write more than here") {
  // A memfd is on no mount that can be had again.
  const Descriptor memory(::memfd_create("test", MFD_CLOEXEC));
  REQUIRE(memory.ok());
  REQUIRE(::fchmod(memory.get(), 0600) == 0);
  const auto error = [&](uid_t uid, bool until_changed, bool may_write) {
    const auto lent = open_for_mapping({memory.get(), until_changed}, Mapping::kReads, uid,
                                       [&] { return may_write; });
    return lent.ok() ? 0 : lent.error().value;
  };
  const uid_t stranger = ::geteuid() + 1000;
  CHECK(error(stranger, false, false) == 0);  // the kernel refuses it
  CHECK(error(::geteuid(), false, true) == 0);
  CHECK(error(::geteuid(), false, false) == EOPNOTSUPP);
  CHECK(error(0, false, false) == EOPNOTSUPP);
  CHECK(error(0, false, true) == 0);
  REQUIRE(::fchmod(memory.get(), 0602) == 0);
  CHECK(error(stranger, false, false) == EOPNOTSUPP);
  REQUIRE(::fchmod(memory.get(), 0620) == 0);
  CHECK(error(stranger, false, false) == EOPNOTSUPP);
  const auto writes =
      open_for_mapping({memory.get(), true}, Mapping::kWrites, 0, [] { return true; });
  CHECK((!writes.ok() && writes.error() == Errno{EOPNOTSUPP}));
}

}  // namespace
}  // namespace libservices::host
