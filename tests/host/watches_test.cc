// SPDX-License-Identifier: Apache-2.0
//
// Shadows of watched objects: who gets one, and when it goes.
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/host/in_process.h"

namespace libservices::host {
namespace {

using protocol::Operation;

class Watcher : public InProcessClient {
 public:
  Watcher(InProcessService& service, uid_t uid)
      : InProcessClient(service, uid),
        service_(service),
        notifier_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {}

  int mkdir(std::string_view path, std::uint32_t mode = 0755) {
    return call(Operation::kMkdir,
                protocol::MknodRequest{.target = target(path, protocol::kRoot, 0), .mode = mode},
                path)
        .error;
  }
  int make_file(std::string_view path) {
    return call(Operation::kMknod,
                protocol::MknodRequest{.target = target(path, protocol::kRoot, 0),
                                       .mode = S_IFREG | 0644},
                path)
        .error;
  }
  int unlink(std::string_view path) {
    return call(Operation::kUnlink,
                protocol::UnlinkRequest{.target = target(path, protocol::kRoot, 0)}, path)
        .error;
  }
  int rename(const std::string& from, const std::string& to) {
    return call(Operation::kRename,
                protocol::TwoTargetsRequest{.from = target(from, protocol::kRoot, 0),
                                            .to = target(to, protocol::kRoot, 0)},
                from + to)
        .error;
  }
  bool exists(std::string_view path) {
    return call(Operation::kStat, protocol::StatRequest{.target = target(path)}, path).error == 0;
  }
  int rmdir(std::string_view path) {
    return call(Operation::kRmdir,
                protocol::UnlinkRequest{.target = target(path, protocol::kRoot, 0)}, path)
        .error;
  }
  // The shadow of what is there; an errno in `error`.
  Descriptor shadow_of(std::string_view path) {
    protocol::ObjectRequest request;
    request.type = protocol::SocketRequestType::kWatch;
    request.handle = open(path, O_PATH);
    protocol::SocketAnswer answer;
    std::vector<Descriptor> descriptors;
    CHECK(service_.sessions.message(session(), std::as_bytes(std::span(&request, 1)), {}, answer,
                                    descriptors));
    error = answer.error;
    return descriptors.empty() ? Descriptor() : std::move(descriptors[0]);
  }
  int watch(std::string_view path, std::uint32_t mask = IN_ALL_EVENTS) {
    const Descriptor shadow = shadow_of(path);
    if (!shadow.ok()) return -error;
    const std::string shown = "/proc/self/fd/" + std::to_string(shadow.get());
    return ::inotify_add_watch(notifier_.get(), shown.c_str(), mask);
  }
  // "MASK NAME" of each event, in hexadecimal.
  std::vector<std::string> events() {
    std::vector<std::string> seen;
    alignas(inotify_event) char buffer[16384];
    const ssize_t bytes = ::read(notifier_.get(), buffer, sizeof buffer);
    for (ssize_t at = 0; at < bytes;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      char mask[16];
      std::snprintf(mask, sizeof mask, "%x ", event->mask);
      seen.push_back(std::string(mask) + (event->len != 0 ? event->name : ""));
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
    return seen;
  }
  void watch_no_more() { notifier_.reset(); }

  int error = 0;

 private:
  InProcessService& service_;
  Descriptor notifier_;
};

std::size_t files_in(const std::string& directory) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(directory)) ++count;
  return count;
}

TEST_CASE("a watch takes the right to read") {
  InProcessService service;
  Watcher root(service, 0);
  REQUIRE(root.mkdir("/private", 0711) == 0);
  Watcher user(service, 1000);
  CHECK(user.watch("/private") == -EACCES);
  CHECK(files_in(service.watched_path() + "/shadows") == 0);
  CHECK(root.watch("/private") == 1);
  CHECK(user.watch("/private") == -EACCES);
  CHECK(service.watches.count() == 1);
}

TEST_CASE("a shadow can be watched, and neither be read nor written") {
  InProcessService service;
  Watcher root(service, 0);
  const Descriptor shadow = root.shadow_of("/");
  REQUIRE(shadow.ok());
  CHECK((::fcntl(shadow.get(), F_GETFL) & O_PATH) != 0);
  char byte = 0;
  CHECK(::read(shadow.get(), &byte, 1) == -1);
  CHECK(root.shadow_of("/none").ok() == false);
  CHECK(root.error == ESTALE);  // there is no such open file
}

TEST_CASE("a shadow leads nowhere") {
  InProcessService service;
  Watcher root(service, 0);
  REQUIRE(root.mkdir("/a") == 0);
  check_leads_nowhere(root.shadow_of("/a"));
}

TEST_CASE("shadows that nobody watches go, and the others stay") {
  InProcessService service;
  Watcher first(service, 0);
  Watcher second(service, 0);
  REQUIRE(first.mkdir("/a") == 0);
  REQUIRE(first.mkdir("/b") == 0);
  REQUIRE(first.watch("/a") > 0);
  REQUIRE(first.watch("/b") > 0);
  REQUIRE(second.watch("/b") > 0);
  CHECK(service.watches.wait().count() == -1);
  service.watches.processes_ended();
  REQUIRE(service.watches.wait().count() == 0);
  service.watches.sweep_if_due();
  CHECK(service.watches.count() == 2);
  first.watch_no_more();
  service.watches.processes_ended();
  service.watches.sweep_if_due();
  CHECK(service.watches.count() == 1);
  CHECK(files_in(service.watched_path() + "/shadows") == 1);
  (void)second.events();
  REQUIRE(first.mkdir("/b/c") == 0);
  CHECK(second.events() == std::vector<std::string>{"40000100 c"});
  // One that went comes back.
  REQUIRE(second.watch("/a") > 0);
  REQUIRE(first.mkdir("/a/c") == 0);
  CHECK(second.events() == std::vector<std::string>{"40000100 c"});
}

TEST_CASE("the end of an object ends its watch, and nothing is left of it") {
  InProcessService service;
  Watcher client(service, 0);
  REQUIRE(client.mkdir("/a") == 0);
  REQUIRE(client.watch("/a") > 0);
  REQUIRE(client.rmdir("/a") == 0);
  const auto seen = client.events();
  REQUIRE(seen.size() >= 2);
  CHECK(seen[seen.size() - 2] == "400 ");
  CHECK(seen.back() == "8000 ");
  CHECK(service.watches.count() == 0);
  CHECK(files_in(service.watched_path() + "/shadows") == 0);
  // Another object of that name has a shadow of its own.
  REQUIRE(client.mkdir("/a") == 0);
  REQUIRE(client.watch("/a") > 0);
  REQUIRE(client.mkdir("/a/b") == 0);
  CHECK(client.events().back() == "40000100 b");
}

TEST_CASE("the end of the service tells no watcher of files that went") {
  InProcessService service;
  Watcher client(service, 0);
  REQUIRE(client.mkdir("/a") == 0);
  REQUIRE(client.mkdir("/a/b") == 0);
  REQUIRE(client.watch("/a") > 0);
  service.watches.stop();
  service.watches.remove();
  for (const std::string& event : client.events()) CHECK(event.find("200 b") == std::string::npos);
  CHECK(files_in(service.watched_path() + "/shadows") == 1);
}

// What applies to a set of names.
void apply_to_names(const std::vector<std::string>& events, std::set<std::string>& names) {
  for (const std::string& event : events) {
    const std::string name = event.substr(event.find(' ') + 1);
    if (event.starts_with("100 ") || event.starts_with("80 ")) {
      names.insert(name);
    } else {
      CHECK_MESSAGE(names.erase(name) == 1, "it was not there: " << name);
    }
  }
}

// The other directory is below the first, since ThreadSanitizer takes two that are beside each other
// for a cycle of locks: it does not know that one rename at a time holds two.
TEST_CASE("who applies the events to what was there has what is there") {
  constexpr int kThreads = 4;
  constexpr int kChanges = 400;
  constexpr int kNames = 12;
  InProcessService service;
  Watcher watcher(service, 0);
  REQUIRE(watcher.mkdir("/d") == 0);
  REQUIRE(watcher.mkdir("/d/in") == 0);
  REQUIRE(watcher.watch("/d", IN_CREATE | IN_DELETE | IN_MOVE) > 0);
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < kThreads; ++number) {
    threads.emplace_back([&service, number] {
      Watcher client(service, 0);
      std::minstd_rand random(number + 1);
      const auto name = [&random](const char* directory) {
        return directory + std::to_string(random() % kNames);
      };
      for (int i = 0; i < kChanges; ++i) {
        switch (random() % 5) {
          case 0:
          case 1:
            (void)client.make_file(name("/d/"));
            break;
          case 2:
            (void)client.unlink(name("/d/"));
            break;
          case 3:
            (void)client.rename(name("/d/"), name(random() % 2 == 0 ? "/d/" : "/d/in/"));
            break;
          default:
            (void)client.rename(name("/d/in/"), name("/d/"));
        }
        if (i % 50 != 0) continue;
        // Other watches come and go meanwhile.
        (void)client.shadow_of("/d/in");
        service.watches.processes_ended();
        service.watches.sweep_if_due();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  std::set<std::string> there;
  for (int i = 0; i < kNames; ++i) {
    if (watcher.exists("/d/" + std::to_string(i))) there.insert(std::to_string(i));
  }
  std::set<std::string> told;
  for (auto events = watcher.events(); !events.empty(); events = watcher.events()) {
    apply_to_names(events, told);
  }
  CHECK(told == there);
}

}  // namespace
}  // namespace libservices::host
