// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/device.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

namespace libservices::fuse {
namespace {

// Page-aligned memory, there only as far as it is used.
class Room {
 public:
  explicit Room(std::size_t size) : size_(size) {
    void* const mapped =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped != MAP_FAILED) start_ = static_cast<std::byte*>(mapped);
  }
  ~Room() {
    if (start_ != nullptr) ::munmap(start_, size_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  bool ok() const { return start_ != nullptr; }
  std::span<std::byte> bytes() const { return {start_, size_}; }

 private:
  std::byte* start_ = nullptr;
  const std::size_t size_;
};

iovec part(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace

int Device::wake_up_signal() { return SIGRTMIN + 8; }

bool Device::start() {
  struct sigaction wake {};
  wake.sa_handler = [](int) {};  // without SA_RESTART: the read ends with EINTR
  ::sigaction(wake_up_signal(), &wake, nullptr);
  std::lock_guard lock(mutex_);
  nowhere_ = host::Descriptor(::open("/dev/null", O_RDWR | O_CLOEXEC));
  return nowhere_.ok() && begin_thread();
}

// REQUIRES: mutex_.
bool Device::begin_thread() {
  sigset_t most;
  sigset_t before;
  ::sigfillset(&most);  // the others are for the service's own threads
  ::sigdelset(&most, wake_up_signal());
  ::pthread_sigmask(SIG_SETMASK, &most, &before);
  bool begun = true;
  try {
    std::thread thread([this] { serve(); });
    threads_.push_back(thread.native_handle());
    thread.detach();
  } catch (const std::system_error&) {
    begun = false;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return begun;
}

void Device::stop() {
  constexpr std::chrono::milliseconds kAgain(10);  // a signal may come just before the read
  std::unique_lock lock(mutex_);
  stopping_ = true;
  while (!threads_.empty()) {
    for (const pthread_t thread : threads_) ::pthread_kill(thread, wake_up_signal());
    ended_.wait_for(lock, kAgain);
  }
}

bool Device::is_mounted() const {
  std::lock_guard lock(mutex_);
  return !gone_;
}

void Device::serve() {
  const Room message(kMessageRoom);
  const Room payload(kPayloadRoom);
  bool gone = false;
  std::unique_lock lock(mutex_);
  while (message.ok() && payload.ok() && !gone_ && !stopping_) {
    ++reading_;
    lock.unlock();
    const ssize_t size = ::read(descriptor_.get(), message.bytes().data(), kMessageRoom);
    const int error = errno;
    lock.lock();
    --reading_;
    if (size < 0) {
      // ENOENT: the request was aborted before it was read.
      if (error == EINTR || error == EAGAIN || error == ENOENT) continue;
      gone = !std::exchange(gone_, true);
      break;
    }
    if (reading_ == 0 && threads_.size() < options_.most_threads && !stopping_) (void)begin_thread();
    lock.unlock();
    serve_one(message.bytes().first(static_cast<std::size_t>(size)), payload.bytes());
    lock.lock();
  }
  lock.unlock();
  if (gone && options_.on_end) options_.on_end();
  lock.lock();
  // What is sent later goes nowhere; with the last reader the kernel's end of the connection ends.
  std::erase_if(threads_, [](pthread_t one) { return ::pthread_equal(one, ::pthread_self()) != 0; });
  if (threads_.empty()) (void)::dup3(nowhere_.get(), descriptor_.get(), O_CLOEXEC);
  // Under the lock: who waits may end this object as soon as it has it.
  ended_.notify_all();
}

void Device::serve_one(std::span<const std::byte> bytes, std::span<std::byte> room) {
  Message message;
  const Result<void> decoded = decode(bytes, session_.negotiated(), message);
  if (!decoded.ok()) {
    if (message.header.unique != 0) {
      (void)send(message.header.unique, decoded.error().value, {}, {});
    }
    return;
  }
  Reply reply;
  session_.run(message, room, reply);
  if (!reply.none) {
    const bool taken = send(message.header.unique, reply.error,
                            std::span(reply.fixed).first(reply.fixed_bytes), reply.payload);
    if (!taken) session_.undo(reply);
  }
  Session::deliver_notices();
}

bool Device::send(std::uint64_t unique, int error, std::span<const std::byte> fixed,
                  std::span<const std::byte> payload) {
  const std::size_t size = sizeof(fuse_out_header) + fixed.size() + payload.size();
  const fuse_out_header header{static_cast<std::uint32_t>(size), -error, unique};
  const iovec parts[] = {part(std::as_bytes(std::span(&header, 1))), part(fixed), part(payload)};
  return ::writev(descriptor_.get(), parts, std::size(parts)) == static_cast<ssize_t>(size);
}

bool Device::notify(int code, std::span<const std::byte> fixed, std::string_view name) {
  const bool named = !name.empty();
  const std::size_t size = sizeof(fuse_out_header) + fixed.size() + (named ? name.size() + 1 : 0);
  const fuse_out_header header{static_cast<std::uint32_t>(size), code, 0};
  static constexpr std::byte kEnd[1] = {};
  const iovec parts[] = {part(std::as_bytes(std::span(&header, 1))), part(fixed),
                         part(std::as_bytes(std::span(name))),
                         part(std::span(kEnd).first(named ? 1 : 0))};
  return ::writev(descriptor_.get(), parts, std::size(parts)) == static_cast<ssize_t>(size);
}

std::int32_t Device::announce(int descriptor) {
  abi::BackingMap map{descriptor, 0, 0};
  const int number = ::ioctl(descriptor_.get(), abi::kIocBackingOpen, &map);
  return number < 0 ? -errno : number;
}

void Device::withdraw(std::int32_t number) {
  auto id = static_cast<std::uint32_t>(number);
  (void)::ioctl(descriptor_.get(), abi::kIocBackingClose, &id);
}

}  // namespace libservices::fuse
