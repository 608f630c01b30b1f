// SPDX-License-Identifier: Apache-2.0
//
// A program that a test tells through its standard input and hears through its standard output.
#ifndef LIBSERVICES_TESTS_SUPPORT_PIPED_PROCESS_H_
#define LIBSERVICES_TESTS_SUPPORT_PIPED_PROCESS_H_

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace libservices::testing {

// False: the other end is gone.
inline bool send_all(int descriptor, const void* bytes, std::size_t size) {
  const auto* at = static_cast<const char*>(bytes);
  while (size != 0) {
    const ssize_t count = ::write(descriptor, at, size);
    if (count <= 0) return false;
    at += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}
inline bool receive_all(int descriptor, void* bytes, std::size_t size) {
  auto* at = static_cast<char*>(bytes);
  while (size != 0) {
    const ssize_t count = ::read(descriptor, at, size);
    if (count <= 0) return false;
    at += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

// What the build has made, by its path from the root of the sources.
inline std::string built_program(const std::string& path) {
  return std::string(std::getenv("TEST_SRCDIR")) + "/" + std::getenv("TEST_WORKSPACE") + "/" + path;
}

class PipedProcess {
 public:
  // The program and its arguments.
  explicit PipedProcess(std::vector<std::string> words) {
    int down[2];
    int up[2];
    if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) {
      throw std::runtime_error("pipe2");
    }
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(down[0], STDIN_FILENO);
      ::dup2(up[1], STDOUT_FILENO);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    if (child_ < 0) throw std::runtime_error("fork");
    ::close(down[0]);
    ::close(up[1]);
    to_ = down[1];
    from_ = up[0];
  }
  ~PipedProcess() { (void)end(); }
  PipedProcess(const PipedProcess&) = delete;
  PipedProcess& operator=(const PipedProcess&) = delete;

  bool send(const void* bytes, std::size_t size) { return send_all(to_, bytes, size); }
  bool receive(void* bytes, std::size_t size) { return receive_all(from_, bytes, size); }

  // Its input ends, and it gets `signal` unless that is 0. Its exit status, or 128 + signal.
  int end(int signal = 0) {
    if (child_ < 0) return status_;
    ::close(to_);
    ::close(from_);
    if (signal != 0) ::kill(child_, signal);
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = -1;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return status_;
  }

 private:
  pid_t child_ = -1;
  int to_ = -1;
  int from_ = -1;
  int status_ = 0;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_SUPPORT_PIPED_PROCESS_H_
