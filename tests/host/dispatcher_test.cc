// SPDX-License-Identifier: Apache-2.0
//
// Requests to a filesystem through the dispatcher: what they do, and that no bytes of a hostile
// peer do anything else.
#include <dirent.h>
#include <fcntl.h>

#include <atomic>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "tests/host/in_process.h"

namespace libservices::host {
namespace {

using protocol::Operation;
using protocol::Target;

template <class Words>
Words words_of(const Answer& answer) {
  Words words;
  std::memcpy(static_cast<void*>(&words), answer.words.data(), sizeof words);
  return words;
}

TEST_CASE("a file is made, written, read, and told of") {
  InProcessService service;
  InProcessClient client(service, 0);
  const auto handle = client.open("/f", O_CREAT | O_EXCL | O_RDWR, 0640);
  REQUIRE(handle != 0);
  CHECK(client.write(handle, "hello") == 0);
  CHECK(client.write(handle, " there", 5) == 0);
  CHECK(client.read(handle, 0) == "hello there");
  CHECK(client.read(handle) == " there");
  const Answer told =
      client.call(Operation::kStat, protocol::StatRequest{InProcessClient::target("/f")}, "/f");
  REQUIRE(told.error == 0);
  CHECK(words_of<Attributes>(told).size == 11);
  CHECK(words_of<Attributes>(told).permissions() == 0640);
  const Answer same =
      client.call(Operation::kStat, protocol::StatRequest{{handle, Target::kItself, 0}});
  CHECK(words_of<Attributes>(same).inode == words_of<Attributes>(told).inode);
  const Answer sought = client.call(Operation::kSeek, protocol::SeekRequest{handle, -5, SEEK_END});
  CHECK(sought.words[0] == 6);
  CHECK(client.open("/f", O_CREAT | O_EXCL | O_RDWR) == 0);
  CHECK(client.error == EEXIST);
  CHECK(client.close(handle) == 0);
  CHECK(service.open_files() == 0);
}

TEST_CASE("the flags of an open file are those that F_GETFL reports") {
  InProcessService service;
  InProcessClient client(service, 0);
  const auto handle = client.open("/f", O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC);
  const protocol::FlagsRequest request{handle, O_NONBLOCK};
  const auto flags = client.call(Operation::kGetFlags, request).words[0];
  CHECK(flags == (O_WRONLY | O_APPEND | 0100000));
  const auto changed = client.call(Operation::kSetFlags, request).words[0];
  CHECK(changed == (O_WRONLY | O_NONBLOCK | 0100000));
}

TEST_CASE("a listing has every entry once, in records that fit") {
  InProcessService service;
  InProcessClient client(service, 0);
  std::set<std::string> expected{".", ".."};
  for (int i = 0; i < 100; ++i) {
    const std::string name = "file-" + std::to_string(i);
    expected.insert(name);
    REQUIRE(client.open("/" + name, O_CREAT | O_RDWR) != 0);
  }
  const auto directory = client.open("/", O_RDONLY | O_DIRECTORY);
  std::set<std::string> seen;
  for (;;) {
    const Answer answer =
        client.call(Operation::kReaddir, protocol::ReaddirRequest{directory, 200});
    REQUIRE(answer.error == 0);
    if (answer.output_bytes == 0) break;
    CHECK(answer.output_bytes <= 200);
    for (std::string_view rest = client.output(); !rest.empty();) {
      dirent64 entry{};
      std::memcpy(&entry, rest.data(), offsetof(dirent64, d_name));
      REQUIRE(entry.d_reclen <= rest.size());
      const std::string name(rest.data() + offsetof(dirent64, d_name));
      CHECK(seen.insert(name).second);
      CHECK(entry.d_type == (name.starts_with("file") ? DT_REG : DT_DIR));
      rest.remove_prefix(entry.d_reclen);
    }
  }
  CHECK(seen == expected);
  (void)client.call(Operation::kSeek, protocol::SeekRequest{directory, 0, SEEK_SET});
  CHECK(client.call(Operation::kReaddir, protocol::ReaddirRequest{directory, 8}).error == EINVAL);
}

TEST_CASE("names are made, changed and removed") {
  InProcessService service;
  InProcessClient client(service, 0);
  CHECK(client.mkdir("/d") == 0);
  CHECK(client.mkdir("/d") == EEXIST);
  REQUIRE(client.open("/d/f", O_CREAT | O_RDWR) != 0);
  const auto directory = client.open("/d", O_PATH | O_DIRECTORY);
  REQUIRE(directory != 0);
  const std::string both = "fg";
  CHECK(client
            .call(Operation::kRename,
                  protocol::TwoTargetsRequest{InProcessClient::target("f", directory),
                                              InProcessClient::target("g", directory), 0},
                  both)
            .error == 0);
  CHECK(client.call(Operation::kRmdir, protocol::UnlinkRequest{InProcessClient::target("/d")}, "/d")
            .error == ENOTEMPTY);
  CHECK(client
            .call(Operation::kUnlink,
                  protocol::UnlinkRequest{InProcessClient::target("g", directory)}, "g")
            .error == 0);
  CHECK(client.call(Operation::kRmdir, protocol::UnlinkRequest{InProcessClient::target("/d")}, "/d")
            .error == 0);
}

TEST_CASE("a walk that leaves the instance says where it went on") {
  InProcessService service;
  InProcessClient client(service, 0);
  CHECK(client.mkdir("/d") == 0);
  const Answer up = client.call(
      Operation::kStat, protocol::StatRequest{InProcessClient::target("d/../../etc/passwd")},
      "d/../../etc/passwd");
  CHECK(up.error == protocol::kOutside);
  CHECK(up.words[0] == 0);
  CHECK(client.output() == "../etc/passwd");
  REQUIRE(client
              .call(Operation::kSymlink,
                    protocol::SymlinkRequest{InProcessClient::target("/away"), 8}, "/away/usr/lib")
              .error == 0);
  const Answer away = client.call(
      Operation::kStat, protocol::StatRequest{InProcessClient::target("/away/x")}, "/away/x");
  CHECK(away.error == protocol::kOutside);
  CHECK(client.output() == "/usr/lib/x");
  const Answer second = client.call(Operation::kRename,
                                    protocol::TwoTargetsRequest{InProcessClient::target("/d"),
                                                                InProcessClient::target("../e"), 0},
                                    "/d../e");
  CHECK(second.error == protocol::kOutside);
  CHECK(second.words[0] == 1);
  CHECK(client.output() == "../e");
}

TEST_CASE(
    "a working directory needs the right to search, and the directory's kind of placeholder") {
  InProcessService service;
  InProcessClient root(service, 0);
  InProcessClient user(service, 1000);
  REQUIRE(root.mkdir("/private", 0700) == 0);
  REQUIRE(root.open("/f", O_CREAT | O_RDWR) != 0);
  const auto change = [](InProcessClient& client, std::string_view path) {
    return client
        .call(Operation::kOpen,
              protocol::OpenRequest{.target = InProcessClient::target(path),
                                    .flags = O_PATH | O_DIRECTORY,
                                    .placeholder = client.for_directory(),
                                    .for_chdir = 1},
              path)
        .error;
  };
  CHECK(change(user, "/private") == EACCES);
  CHECK(change(user, "/f") == ENOTDIR);
  CHECK(change(root, "/private") == 0);
  CHECK(change(user, "/") == 0);
}

TEST_CASE("identity is the session's, groups included") {
  InProcessService service;
  InProcessClient root(service, 0);
  InProcessClient member(service, 1000, 100, {2000});
  InProcessClient stranger(service, 1001);
  REQUIRE(root.open("/f", O_CREAT | O_RDWR, 0640) != 0);
  AttributeChanges changes;
  changes.which = AttributeChanges::kGid;
  changes.gid = 2000;
  REQUIRE(root.call(Operation::kSetattr,
                    protocol::SetattrRequest{InProcessClient::target("/f"), changes}, "/f")
              .error == 0);
  CHECK(member.open("/f", O_RDONLY) != 0);
  CHECK(member.open("/f", O_RDWR) == 0);
  CHECK(stranger.open("/f", O_RDONLY) == 0);
  CHECK(stranger.error == EACCES);
}

TEST_CASE("instances are apart: no handle of one names a thing in the other") {
  InProcessService service;
  InProcessClient client(service, 0);
  const auto here = client.open("/f", O_CREAT | O_RDWR);
  const Answer there =
      client.call(Operation::kStat, protocol::StatRequest{InProcessClient::target("/f")}, "/f", 1);
  CHECK(there.error == ENOENT);
  const Answer opened = client.call(
      Operation::kOpen,
      protocol::OpenRequest{.target = InProcessClient::target("/"), .flags = O_DIRECTORY}, "/", 1);
  const auto other = words_of<protocol::OpenAnswer>(opened).handle;
  CHECK(
      client.call(Operation::kCopyRange, protocol::CopyRangeRequest{here, 0, other, 0, 1}).error ==
      EXDEV);
  CHECK(client
            .call(Operation::kRename,
                  protocol::TwoTargetsRequest{InProcessClient::target("/f"),
                                              InProcessClient::target("g", other), 0},
                  "/fg")
            .error == EXDEV);
  CHECK(client.call(Operation::kStat, protocol::StatRequest{InProcessClient::target("/")}, "/", 2)
            .error == EINVAL);
}

TEST_CASE("handles that were never given, are stale, or are another session's name nothing") {
  InProcessService service;
  InProcessClient one(service, 0);
  InProcessClient two(service, 0);
  const auto handle = one.open("/f", O_CREAT | O_RDWR);
  const auto next = two.open("/g", O_CREAT | O_RDWR);
  REQUIRE(two.close(next) == 0);
  (void)two.read(next);
  CHECK(two.error == EBADF);
  const auto reused = two.open("/g", O_RDWR);
  CHECK(reused != next);
  (void)two.read(next);
  CHECK(two.error == EBADF);
  (void)two.read(handle);  // the same index may be in use here, never with f behind it
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  REQUIRE(two.close(reused) == 0);
  for (int i = 0; i < 1 << 20; ++i) {
    const std::uint64_t forged = i % 2 == 0 ? random() : random() & 0x0000000f0000000fULL;
    if (two.session().handles->find(forged) != nullptr) FAIL("a hit");
  }
}

TEST_CASE("what no library writes is refused and counted") {
  InProcessService service;
  InProcessClient client(service, 0);
  const auto handle = client.open("/f", O_CREAT | O_RDWR);
  const auto refused = [&] { return service.dispatcher.counts().malformed; };
  CHECK(client.call(static_cast<Operation>(999), protocol::FsyncRequest{}).malformed);
  CHECK(client.call(Operation::kStat, protocol::StatRequest{{0, 0, 100}}, "/f").malformed);
  CHECK(client.call(Operation::kStat, protocol::StatRequest{{0, 64, 2}}, "/f").malformed);
  CHECK(client.call(Operation::kStat, protocol::StatRequest{{handle, Target::kItself, 2}}, "/f")
            .malformed);
  CHECK(
      client
          .call(Operation::kUnlink, protocol::UnlinkRequest{{0, 0, 3}}, std::string_view("f\0g", 3))
          .malformed);
  CHECK(client.call(Operation::kLock, protocol::LockWords{handle, 9, 0, 0, 1, 0}).malformed);
  CHECK(
      client
          .call(Operation::kSetxattr, protocol::XattrRequest{{0, 0, 2}, 4, 0, UINT64_MAX}, "/fuser")
          .malformed);
  const protocol::Target itself{handle, Target::kItself, 0};
  const InodeFlags no_form{.form = static_cast<InodeFlags::Form>(2)};
  CHECK(client.call(Operation::kSetInodeFlags, protocol::InodeFlagsRequest{itself, no_form})
            .malformed);
  CHECK(refused() == 8);
  CHECK(client.call(Operation::kGetInodeFlags, protocol::InodeFlagsRequest{itself, {}}).error ==
        ENOTTY);  // memory has none
  // Lengths that are wrong in an ordinary way are errors of the call.
  const std::string name(5000, 'x');
  CHECK(client.call(Operation::kStat, protocol::StatRequest{InProcessClient::target(name)}, name)
            .error == ENAMETOOLONG);
  CHECK(client.call(Operation::kSeek, protocol::SeekRequest{handle, 0, 99}).error == EINVAL);
  CHECK(client.call(Operation::kNothing, protocol::FsyncRequest{}).error == 0);
  CHECK(refused() == 8);
}

TEST_CASE("random requests, in bytes that change meanwhile, do no harm") {
  InProcessService service;
  std::atomic<bool> done{false};
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::vector<std::byte> shared(65536);
  // The other side of the memory. What it does to a value is its own loss; the service may only
  // not be harmed.
  std::thread attacker([&] {
    std::mt19937 random(seed);
#if defined(__SANITIZE_THREAD__)
    done = true;  // the race is wanted here, and would be reported
#endif
    while (!done) {
      __atomic_store_n(reinterpret_cast<unsigned char*>(&shared[random() % 300]),
                       static_cast<unsigned char>(random()), __ATOMIC_RELAXED);
    }
  });
  {
    InProcessClient client(service, 0);
    std::mt19937_64 random(seed + 1);
    std::vector<protocol::Handle> handles;
    constexpr char kText[] = "/a/../b/./c/x";
    for (int i = 0; i < 30000; ++i) {
      Call call;
      call.operation = static_cast<Operation>(random() % (kOperations + 2));
      call.instance = static_cast<std::uint32_t>(random() % 3);
      for (auto& word : call.words) {
        switch (random() % 4) {
          case 0:
            word = random() % 16;
            break;
          case 1:
            word = (random() % 40) << 32 | (random() % 4);
            break;
          case 2:
            word = random();
            break;
          default:
            word = handles.empty() ? 0 : handles[random() % handles.size()];
        }
      }
      if (call.operation == Operation::kLock) continue;  // none is ever dropped here
      for (std::size_t k = 0; k < sizeof kText; ++k) {
        __atomic_store_n(reinterpret_cast<char*>(&shared[k]), kText[random() % sizeof kText],
                         __ATOMIC_RELAXED);
      }
      call.input = std::span(shared).first(random() % 300);
      call.output = std::span(shared).first(random() % 4096);
      Answer answer;
      service.dispatcher.run(client.session(), call, answer);
      CHECK(answer.output_bytes <= call.output.size());
      CHECK(answer.error >= 0);
      if (call.operation == Operation::kOpen && answer.error == 0) {
        handles.push_back(answer.words[0]);
      }
    }
  }
  done = true;
  attacker.join();
  CHECK(service.open_files() == 0);
}

TEST_CASE("what a caller never hears of is undone") {
  InProcessService service;
  InProcessClient client(service, 0);
  const protocol::Placeholder placeholder = client.welcome.stock[0].id;
  const std::string_view path = "/f";
  const auto late = [&](Operation operation, const auto& words, std::string_view input) {
    const Answer answer = client.call(operation, words, input);
    CHECK(answer.error == 0);
    Call call;
    call.operation = operation;
    std::memcpy(call.words.data(), &words, sizeof words);
    service.dispatcher.undo(client.session(), call, answer);
    return answer;
  };
  const protocol::OpenRequest open{.target = InProcessClient::target(path),
                                   .flags = O_CREAT | O_RDWR,
                                   .mode = 0600,
                                   .placeholder = placeholder};
  const auto handle = words_of<protocol::OpenAnswer>(late(Operation::kOpen, open, path)).handle;
  CHECK(service.open_files() == 0);
  CHECK(client.session().handles->size() == 0);
  CHECK(service.kept_files.kept() == 0);
  CHECK(client.close(handle) == EBADF);
  // The placeholder stands for nothing.
  const auto again = client.open(path, O_RDWR, 0, placeholder);
  REQUIRE(again != 0);

  // A record lock of the same process on the same file stays when a late open of it is undone.
  using Type = LockRequest::Type;
  const auto lock = [&](protocol::Handle of, Type type) {
    return protocol::LockWords{.handle = of, .owner = 0, .type = static_cast<std::uint32_t>(type),
                               .start = 0, .end = 9, .pid = 0};
  };
  CHECK(client.call(Operation::kLock, lock(again, Type::kExclusive)).error == 0);
  protocol::OpenRequest plain = open;
  plain.placeholder = protocol::kNone;
  late(Operation::kOpen, plain, path);
  CHECK(service.filesystems[0].filesystem->counters().locks == 1);
  CHECK(client.call(Operation::kLock, lock(again, Type::kUnlock)).error == 0);
  late(Operation::kLock, lock(again, Type::kExclusive), {});
  CHECK(service.filesystems[0].filesystem->counters().locks == 0);

  late(Operation::kMakeSocket, protocol::MknodRequest{.target = InProcessClient::target("/s")},
       "/s");
  CHECK(client.session().handles->size() == 1);
  // What failed has given nothing.
  Answer failed;
  failed.error = EIO;
  failed.words[0] = again;
  Call call;
  call.operation = Operation::kOpen;
  service.dispatcher.undo(client.session(), call, failed);
  CHECK(client.session().handles->size() == 1);
}

TEST_CASE("many threads use one session at once") {
  InProcessService service;
  InProcessClient setup(service, 0);
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      InProcessClient client(service, 0);
      const std::string path = "/f" + std::to_string(t % 4);
      for (int i = 0; i < 500; ++i) {
        const auto handle = client.open(path, O_CREAT | O_RDWR);
        if (handle == 0 || client.write(handle, "x", 0) != 0) ++failures;
        (void)client.read(handle, 0);
        if (client.error != 0 || client.close(handle) != 0) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(service.open_files() == 0);
}

}  // namespace
}  // namespace libservices::host
