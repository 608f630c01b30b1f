// SPDX-License-Identifier: Apache-2.0
#include "src/host/status_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "src/host/error_status.h"
#include "src/host/run_directory.h"

namespace libservices::host {
namespace {

constexpr int kPatience = 5000;  // ms that a question waits for its answer
constexpr int kSendBuffer = 1 << 20;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

absl::Status StatusServer::start(const std::string& path, mode_t mode) {
  Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = address_of(path);
  ::unlink(path.c_str());
  if (!listener.ok() || ::bind(listener.get(), generic(address), sizeof address) != 0 ||
      ::chmod(path.c_str(), mode) != 0 || ::listen(listener.get(), 16) != 0) {
    return error_status(
        errno, fmt::format("{}: cannot listen there: {} (choose another run directory)", path,
                           std::strerror(errno)));
  }
  listener_ = std::move(listener);
  return absl::OkStatus();
}

void StatusServer::answer(std::string_view status) {
  const Descriptor peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer.ok()) return;
  ::setsockopt(peer.get(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  while (!status.empty()) {
    const ssize_t sent =
        ::send(peer.get(), status.data(), status.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return;
    status.remove_prefix(static_cast<std::size_t>(sent));
  }
}

absl::StatusOr<std::string> ask_status(const std::string& run_directory) {
  const std::string path = status_path(run_directory);
  const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (!socket.ok() || ::connect(socket.get(), generic(address), sizeof address) != 0) {
    const int error = errno;
    if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) {
      return absl::NotFoundError(
          fmt::format("run directory {}: no service runs there (start one with `libservices "
                      "serve`, or name its pool)",
                      run_directory));
    }
    return error_status(
        error, fmt::format("run directory {}: cannot ask its service: {} (use the service's user)",
                           run_directory, std::strerror(error)));
  }
  std::string status;
  for (;;) {
    pollfd wait{socket.get(), POLLIN, 0};
    if (::poll(&wait, 1, kPatience) != 1) {
      return absl::DeadlineExceededError(
          fmt::format("run directory {}: its service does not answer (look at process {})",
                      run_directory, service_of(run_directory)));
    }
    char buffer[16384];
    const ssize_t bytes = ::recv(socket.get(), buffer, sizeof buffer, 0);
    if (bytes < 0) {
      return error_status(errno,
                          fmt::format("run directory {}: its service broke off: {} (ask again)",
                                      run_directory, std::strerror(errno)));
    }
    if (bytes == 0) return status;
    status.append(buffer, static_cast<std::size_t>(bytes));
  }
}

}  // namespace libservices::host
