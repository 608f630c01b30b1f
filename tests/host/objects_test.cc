// SPDX-License-Identifier: Apache-2.0
//
// The kernel's sockets and fifos that stand for those of a filesystem: who gets them, and when they
// go.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <string>

#include "tests/host/in_process.h"

namespace libservices::host {
namespace {

using protocol::Operation;
using protocol::SocketRequestType;

constexpr uid_t kUser = 1000;
constexpr uid_t kOther = 2000;

class Client : public InProcessClient {
 public:
  Client(InProcessService& service, uid_t uid) : InProcessClient(service, uid), service_(service) {}

  protocol::Handle make_socket(std::string_view path, std::uint32_t mode = 0777) {
    const Answer made =
        call(Operation::kMakeSocket,
             protocol::MknodRequest{
                 .target = target(path, protocol::kRoot, 0), .mode = mode, .umask = 0},
             path);
    error = made.error;
    return made.error == 0 ? made.words[0] : 0;
  }
  int make_fifo(std::string_view path, std::uint32_t mode) {
    return call(Operation::kMknod,
                protocol::MknodRequest{.target = target(path), .mode = S_IFIFO | mode}, path)
        .error;
  }
  int unlink(std::string_view path) {
    return call(Operation::kUnlink,
                protocol::UnlinkRequest{.target = target(path, protocol::kRoot, 0)}, path)
        .error;
  }
  int two(Operation operation, const std::string& from, const std::string& to) {
    return call(operation,
                protocol::TwoTargetsRequest{.from = target(from, protocol::kRoot, 0),
                                            .to = target(to, protocol::kRoot, 0)},
                from + to)
        .error;
  }
  int chmod(std::string_view path, std::uint32_t mode) {
    protocol::SetattrRequest words{.target = target(path), .changes = {}};
    words.changes.which = AttributeChanges::kMode;
    words.changes.mode = mode;
    return call(Operation::kSetattr, words, path).error;
  }

  // An errno, or 0 and the descriptor, if one came, in `got`.
  int about(SocketRequestType type, protocol::Handle handle, std::uint32_t mode = 0,
            std::string_view address = {}, const std::vector<int>& sent = {}) {
    protocol::ObjectRequest request;
    request.type = type;
    request.mode = mode;
    request.handle = handle;
    request.address_bytes = static_cast<std::uint32_t>(address.size());
    if (!address.empty() && address.size() <= sizeof request.address) {
      std::memcpy(request.address, address.data(), address.size());
    }
    protocol::SocketAnswer answer;
    std::vector<Descriptor> descriptors;
    understood = service_.sessions.message(session(), std::as_bytes(std::span(&request, 1)), sent,
                                           answer, descriptors);
    got = descriptors.empty() ? Descriptor() : std::move(descriptors[0]);
    return answer.error;
  }
  int bind(protocol::Handle handle, const Descriptor& socket, std::string_view address) {
    return about(SocketRequestType::kBindSocket, handle, 0, address, {socket.get()});
  }
  int find_socket(std::string_view path) {
    return about(SocketRequestType::kFindSocket, open(path, O_PATH));
  }
  int find_fifo(std::string_view path, std::uint32_t mode) {
    return about(SocketRequestType::kFindFifo, open(path, O_PATH), mode);
  }

  Descriptor got;

 private:
  InProcessService& service_;
};

Descriptor new_socket(int domain = AF_UNIX, int type = SOCK_STREAM) {
  return Descriptor(::socket(domain, type | SOCK_CLOEXEC, 0));
}

int connect_by(const Descriptor& descriptor) {
  const Descriptor socket = new_socket();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor.get());
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0
             ? 0
             : errno;
}

std::string name_of(const Descriptor& socket) {
  sockaddr_un address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return "?";
  // Without a NUL, if it is as long as it may be.
  if (size <= offsetof(sockaddr_un, sun_path)) return "";
  return {address.sun_path, ::strnlen(address.sun_path, sizeof address.sun_path)};
}

std::size_t kept(const InProcessService& service) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(service.objects_path())) {
    (void)entry;
    ++count;
  }
  return count;
}

TEST_CASE("a socket is bound to the object that was made for it, under the address as given") {
  InProcessService service;
  Client root(service, 0);
  for (const std::string& address : {std::string(108, 'x'), std::string("s"),
                                     std::string("/mnt/0/s"), std::string("a/../.././/b/s")}) {
    CAPTURE(address);
    const Descriptor socket = new_socket();
    const auto handle = root.make_socket("/s");
    REQUIRE(handle != 0);
    CHECK(root.find_socket("/s") == ECONNREFUSED);
    REQUIRE(root.bind(handle, socket, address) == 0);
    CHECK(name_of(socket) == address);
    REQUIRE(::listen(socket.get(), 5) == 0);
    CHECK(kept(service) == 1);
    CHECK(root.two(Operation::kLink, "/s", "/t") == 0);
    CHECK(root.unlink("/s") == 0);
    REQUIRE(root.find_socket("/t") == 0);
    CHECK(connect_by(root.got) == 0);
    CHECK(root.unlink("/t") == 0);
    CHECK(kept(service) == 0);
  }
}

TEST_CASE("a handle binds once, and only what was made for a socket") {
  InProcessService service;
  Client root(service, 0);
  CHECK(root.chmod("/", 0777) == 0);
  Client user(service, kUser);
  Client other(service, kOther);
  const Descriptor socket = new_socket();
  const auto handle = user.make_socket("/s");
  CHECK(other.make_socket("/s") == 0);
  CHECK(other.error == EEXIST);
  // Of another session, without a socket, with one that is none.
  CHECK(other.bind(handle, socket, "s") == ESTALE);
  REQUIRE(user.bind(handle, socket, "s") == 0);
  CHECK(user.bind(handle, new_socket(), "s") == ESTALE);
  // The name of somebody who has gone is not to be had.
  CHECK(other.bind(other.open("/s", O_PATH), new_socket(), "s") == EINVAL);
  CHECK(user.bind(user.open("/s", O_PATH), new_socket(), "s") == EINVAL);
  REQUIRE(root.call(Operation::kMknod,
                    protocol::MknodRequest{.target = root.target("/m"), .mode = S_IFSOCK | 0777},
                    "/m")
              .error == 0);
  CHECK(root.bind(root.open("/m", O_PATH), new_socket(), "m") == EINVAL);

  CHECK(root.about(SocketRequestType::kBindSocket, root.make_socket("/1"), 0, "1") == EINVAL);
  CHECK(root.bind(root.make_socket("/2"), new_socket(AF_INET), "2") == EINVAL);
  CHECK(root.bind(root.make_socket("/3"), Descriptor(::open("/dev/null", O_RDWR)), "3") ==
        ENOTSOCK);
  CHECK(root.bind(root.make_socket("/4"), socket, "4") == EINVAL);  // it has a name
  CHECK(root.bind(root.make_socket("/5"), new_socket(), "") == EINVAL);
  CHECK(root.bind(root.make_socket("/6"), new_socket(), std::string_view("a\0b", 3)) == EINVAL);
  CHECK(root.bind(root.make_socket("/7"), new_socket(), "..") != 0);
  CHECK(root.bind(root.make_socket("/8"), new_socket(), "/") != 0);
  CHECK(root.bind(root.make_socket("/9"), new_socket(), "dir/") != 0);
  CHECK(kept(service) == 1);
}

TEST_CASE("who may write the socket may connect") {
  InProcessService service;
  Client root(service, 0);
  CHECK(root.chmod("/", 0777) == 0);
  Client user(service, kUser);
  Client other(service, kOther);
  const Descriptor socket = new_socket();
  REQUIRE(user.bind(user.make_socket("/s", 0755), socket, "s") == 0);
  REQUIRE(::listen(socket.get(), 5) == 0);
  CHECK(other.find_socket("/s") == EACCES);
  CHECK(user.find_socket("/s") == 0);
  CHECK(user.chmod("/s", 0722) == 0);
  CHECK(other.find_socket("/s") == 0);
  CHECK(root.find_socket("/s") == 0);
  REQUIRE(user.open("/f", O_CREAT | O_RDWR, 0666) != 0);
  CHECK(user.find_socket("/f") == ECONNREFUSED);
  CHECK(other.find_fifo("/s", R_OK) == ENXIO);
}

TEST_CASE("a fifo has the rights of its object") {
  if (::geteuid() != 0) {
    MESSAGE("SKIPPED: not root");
    return;
  }
  InProcessService service;
  Client root(service, 0);
  CHECK(root.chmod("/", 0777) == 0);
  Client user(service, kUser);
  Client other(service, kOther);
  REQUIRE(user.make_fifo("/f", 0644) == 0);
  CHECK(kept(service) == 0);
  CHECK(other.find_fifo("/f", W_OK) == EACCES);
  CHECK(other.find_fifo("/f", R_OK | W_OK) == EACCES);
  REQUIRE(other.find_fifo("/f", R_OK) == 0);
  const auto expect = [](const Descriptor& fifo, mode_t mode, uid_t uid) {
    struct stat status {};
    REQUIRE(::fstat(fifo.get(), &status) == 0);
    CHECK(status.st_mode == (S_IFIFO | mode));
    CHECK(status.st_uid == uid);
    return status.st_ino;
  };
  const auto number = expect(other.got, 0644, kUser);
  CHECK(user.chmod("/f", 0600) == 0);
  CHECK(other.find_fifo("/f", R_OK) == EACCES);
  REQUIRE(user.find_fifo("/f", R_OK | W_OK) == 0);
  CHECK(expect(user.got, 0600, kUser) == number);

  CHECK(root.two(Operation::kRename, "/f", "/g") == 0);
  REQUIRE(user.find_fifo("/g", R_OK) == 0);
  CHECK(expect(user.got, 0600, kUser) == number);
  CHECK(kept(service) == 1);

  SUBCASE("it goes when its name is removed") { CHECK(user.unlink("/g") == 0); }
  SUBCASE("it goes when its name is taken by another") {
    REQUIRE(user.open("/other", O_CREAT | O_RDWR, 0600) != 0);
    CHECK(user.two(Operation::kRename, "/other", "/g") == 0);
  }
  SUBCASE("it stays while it has a name") {
    CHECK(user.two(Operation::kLink, "/g", "/h") == 0);
    CHECK(user.unlink("/g") == 0);
    CHECK(kept(service) == 1);
    CHECK(user.unlink("/h") == 0);
  }
  CHECK(kept(service) == 0);
}

TEST_CASE("questions that no filesystem library asks are not understood") {
  InProcessService service;
  Client root(service, 0);
  REQUIRE(root.make_fifo("/f", 0644) == 0);
  CHECK(root.find_fifo("/f", R_OK) == 0);
  CHECK(root.understood);
  (void)root.find_fifo("/f", 8);
  CHECK(!root.understood);
  (void)root.about(SocketRequestType{99}, root.open("/f", O_PATH));
  CHECK(!root.understood);
  (void)root.about(SocketRequestType::kAdopt, root.open("/f", O_PATH));
  CHECK(!root.understood);
  (void)root.about(SocketRequestType::kBindSocket, root.make_socket("/s"), 0, std::string(109, 'x'),
                   {0});
  CHECK(!root.understood);
  CHECK(root.about(SocketRequestType::kFindSocket, 12345) == ESTALE);
  CHECK(root.about(SocketRequestType::kFindSocket, protocol::kRoot) == ESTALE);
}

TEST_CASE("the next service finds what a killed one has left, and the last one leaves nothing") {
  InProcessService service;
  Client root(service, 0);
  const Descriptor socket = new_socket();
  REQUIRE(root.bind(root.make_socket("/s"), socket, "s") == 0);
  REQUIRE(::listen(socket.get(), 5) == 0);
  KernelObjects next(service.objects_path());
  REQUIRE(next.start().ok());
  const auto file = root.session().handles->find(root.open("/s", O_PATH));
  REQUIRE(file != nullptr);
  const Context context;
  const auto found = next.find_socket(context, service.filesystems[0].path, *file);
  REQUIRE(found.ok());
  CHECK(connect_by(*found) == 0);
  CHECK(!next.find_socket(context, service.filesystems[1].path, *file).ok());
  next.remove();
  CHECK(!std::filesystem::exists(service.objects_path()));
}

}  // namespace
}  // namespace libservices::host
