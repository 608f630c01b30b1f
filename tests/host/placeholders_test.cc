// SPDX-License-Identifier: Apache-2.0
//
// The life of service open files between handles, placeholders and processes.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <string>

#include "tests/host/in_process.h"

namespace libservices::host {
namespace {

using protocol::SocketRequestType;

TEST_CASE("a directory that stands for the working directory leads nowhere") {
  InProcessService service;
  InProcessClient client(service, 0);
  REQUIRE(client.ask(SocketRequestType::kStock, 1, {}, true).stock[0].is_directory != 0);
  check_leads_nowhere(std::move(client.stock.back()));
}

TEST_CASE("a session begins with its stock: descriptors on which every use fails") {
  InProcessService service;
  InProcessClient client(service, 0);
  REQUIRE(client.welcome.stock_count == protocol::kFirstStock);
  REQUIRE(client.stock.size() == client.welcome.stock_count);
  std::vector<protocol::StockEntry> entries(client.welcome.stock,
                                            client.welcome.stock + client.welcome.stock_count);
  entries.push_back(client.ask(SocketRequestType::kStock, 1, {}, true).stock[0]);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    struct stat status {};
    const int descriptor = client.stock[i].get();
    REQUIRE(::fstat(descriptor, &status) == 0);
    CHECK(status.st_dev == client.welcome.placeholder_device);
    CHECK(status.st_ino == entries[i].inode);
    CHECK(status.st_nlink == 0);
    char byte = 0;
    CHECK(::read(descriptor, &byte, 1) == -1);
    CHECK(::write(descriptor, "x", 1) == -1);
    CHECK((entries[i].is_directory != 0) == S_ISDIR(status.st_mode));
  }
  CHECK(entries.back().is_directory != 0);
}

TEST_CASE("the last descriptor's end closes the file, in whatever process it was") {
  InProcessService service;
  InProcessClient client(service, 0);
  REQUIRE(client.open("/f", O_CREAT | O_RDWR, 0644, client.welcome.stock[0].id) != 0);
  CHECK(service.open_files() == 1);
  CHECK(service.placeholders.bound() == 1);
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    ::close(gate[1]);
    (void)!::read(gate[0], &byte, 1);
    ::_exit(0);  // its descriptors end as they would by SIGKILL
  }
  ::close(gate[0]);
  client.stock.clear();
  CHECK(service.open_files() == 1);
  ::close(gate[1]);
  ::waitpid(child, nullptr, 0);
  while (service.placeholders.bound() != 0) REQUIRE(service.collect());
  CHECK(service.open_files() == 0);
  CHECK(client.session().handles->size() == 0);
}

TEST_CASE("an exclusive close ends the file at once, and its placeholder serves the next one") {
  InProcessService service;
  InProcessClient client(service, 0);
  const auto placeholder = client.welcome.stock[0].id;
  for (int i = 0; i < 3; ++i) {
    const auto handle = client.open("/f", O_CREAT | O_RDWR, 0644, placeholder);
    REQUIRE(handle != 0);
    CHECK(client.close(handle, true) == 0);
    CHECK(service.open_files() == 0);
    CHECK(client.close(handle, true) == EBADF);
  }
}

TEST_CASE("after a plain close the file lives as long as a descriptor of it") {
  InProcessService service;
  InProcessClient client(service, 0);
  const auto handle = client.open("/f", O_CREAT | O_RDWR, 0644, client.welcome.stock[0].id);
  CHECK(client.close(handle) == 0);
  CHECK(service.open_files() == 1);
  CHECK(client.close(handle) == EBADF);
  client.stock[0].reset();
  REQUIRE(service.collect());
  CHECK(service.open_files() == 0);
}

TEST_CASE("whoever shows a descriptor gets a handle of the same open file") {
  InProcessService service;
  InProcessClient parent(service, 0);
  InProcessClient child(service, 1000);
  const auto handle = parent.open("/f", O_CREAT | O_RDWR, 0600, parent.welcome.stock[0].id);
  REQUIRE(parent.write(handle, "hello") == 0);
  const Descriptor other(::open("/dev/null", O_RDONLY));
  const auto answer = child.ask(SocketRequestType::kAdopt, 0,
                                {parent.stock[0].get(), other.get(), parent.stock[1].get()});
  REQUIRE(answer.count == 3);
  REQUIRE(answer.adopted[0].handle != 0);
  CHECK((answer.adopted[0].flags & O_ACCMODE) == O_RDWR);
  CHECK(S_ISREG(answer.adopted[0].mode));
  CHECK(answer.adopted[1].handle == 0);
  CHECK(answer.adopted[2].handle == 0);
  // The same offset, and the right that was checked at open.
  CHECK(child.read(answer.adopted[0].handle).empty());
  CHECK(child.read(answer.adopted[0].handle, 0) == "hello");
  // Told twice, the same handle.
  const auto again = child.ask(SocketRequestType::kAdopt, 0, {parent.stock[0].get()});
  CHECK(again.adopted[0].handle == answer.adopted[0].handle);

  SUBCASE("the opener's session may end") {
    parent.disconnect();
    CHECK(child.read(answer.adopted[0].handle, 0) == "hello");
    CHECK(service.open_files() == 1);
  }
  SUBCASE("an exclusive close by one does not take it from the other") {
    CHECK(parent.close(handle, true) == 0);
    CHECK(child.read(answer.adopted[0].handle, 0) == "hello");
  }
}

TEST_CASE("a placeholder is its session's own, of one kind, for one file at a time") {
  InProcessService service;
  InProcessClient one(service, 0);
  InProcessClient two(service, 0);
  REQUIRE(one.open("/f", O_CREAT | O_RDWR, 0644, one.welcome.stock[0].id) != 0);
  CHECK(one.open("/f", O_RDWR, 0, one.welcome.stock[0].id) == 0);
  CHECK(one.error == EBUSY);
  CHECK(two.open("/f", O_RDWR, 0, one.welcome.stock[1].id) == 0);
  CHECK(two.error == EBADF);
  CHECK(one.open("/f", O_RDWR, 0, one.for_directory()) == 0);
  CHECK(one.error == EBADF);
  CHECK(one.open("/f", O_RDWR, 0, 0x7fffffff) == 0);
  CHECK(service.open_files() == 1);
}

TEST_CASE("a session is given more placeholders, up to its limit") {
  InProcessService service({.sessions = 4, .open_files = 100, .placeholders = 40});
  InProcessClient client(service, 0);
  const auto answer = client.ask(SocketRequestType::kStock, 1000);
  CHECK(answer.error == 0);
  CHECK(answer.count == 40 - client.welcome.stock_count);
  CHECK(client.ask(SocketRequestType::kStock, 1).error == EMFILE);
  client.stock.clear();
  while (service.placeholders.given() != 0) REQUIRE(service.collect());
  CHECK(client.ask(SocketRequestType::kStock, 1).count == 1);
}

TEST_CASE("sessions and their files have limits") {
  InProcessService service({.sessions = 2, .open_files = 3, .placeholders = 40});
  InProcessClient client(service, 0);
  for (int i = 0; i < 3; ++i) REQUIRE(client.open("/f", O_CREAT | O_RDWR) != 0);
  CHECK(client.open("/f", O_RDWR) == 0);
  CHECK(client.error == EMFILE);
  const InProcessClient second(service, 0);
  CHECK(service.sessions.open({::getpid(), 0, 0, {}}).error().value == EUSERS);
}

TEST_CASE("a message that no filesystem library writes is not understood") {
  InProcessService service;
  InProcessClient client(service, 0);
  (void)client.ask(static_cast<SocketRequestType>(77), 0);
  CHECK_FALSE(client.understood);
  protocol::SocketAnswer answer;
  std::vector<Descriptor> descriptors;
  const std::byte byte{};
  CHECK_FALSE(service.sessions.message(client.session(), {&byte, 1}, {}, answer, descriptors));
}

TEST_CASE("record locks end with their process, not with its session") {
  InProcessService service;
  InProcessClient here(service, 0);
  const auto handle = here.open("/f", O_CREAT | O_RDWR);
  const protocol::LockWords lock{handle, 0, 1, 0, 100, 0};
  REQUIRE(here.call(protocol::Operation::kLock, lock).error == 0);
  CHECK(service.filesystems[0].filesystem->counters().locks == 1);
  here.disconnect();
  CHECK(service.filesystems[0].filesystem->counters().locks == 1);
}

TEST_CASE("a thousand sessions that end with files open leave nothing") {
  InProcessService service;
  for (int i = 0; i < 1000; ++i) {
    InProcessClient client(service, 0);
    for (unsigned k = 0; k < 3; ++k) {
      REQUIRE(client.open("/f", O_CREAT | O_RDWR, 0644, client.welcome.stock[k].id) != 0);
    }
    REQUIRE(client.open("/f", O_RDWR) != 0);
  }
  while (service.placeholders.given() != 0) REQUIRE(service.collect());
  CHECK(service.open_files() == 0);
  CHECK(service.placeholders.bound() == 0);
  CHECK(service.sessions.list().empty());
}

}  // namespace
}  // namespace libservices::host
