// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/device.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "src/fuse/pipe.h"
#include "src/fuse/room.h"

namespace libservices::fuse {
namespace {

iovec part(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

// Whether the kernel was told in this answer to FUSE_INIT that requests come over rings.
bool agrees_on_rings(const Reply& reply) {
  abi::InitOut out{};
  if (reply.error != 0 || reply.fixed_bytes < sizeof out) return false;
  std::memcpy(&out, reply.fixed.data(), sizeof out);
  return (std::uint64_t{out.flags2} << 32U & abi::kOverIoUring) != 0;
}

}  // namespace

Device::Device(Session& session, host::Descriptor descriptor, Options options)
    : session_(session),
      descriptor_(std::move(descriptor)),
      options_(std::move(options)),
      calls_(options_.calls),
      rings_(options_.rings
                 ? Rings::make(session, calls_, descriptor_.get(), options_.most_threads)
                 : nullptr) {
  session_.set_carrier(this);
}

bool Device::start() {
  return calls_.start() && threads_.begin([this] { serve(); });
}

bool Device::stop(std::chrono::milliseconds most) {
  bool ended = threads_.stop(most);
  if (rings_ != nullptr) ended = rings_->stop(most) && ended;
  calls_.stop();
  // What is sent later goes nowhere, and the kernel's end of the connection ends.
  const host::Descriptor nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (nowhere.ok()) {
    (void)::dup3(nowhere.get(), descriptor_.get(), O_CLOEXEC);
  } else {
    descriptor_.reset();
  }
  return ended;
}

void Device::serve() {
  const Room message(kMessageRoom);
  const Room payload(kPayloadRoom);
  Pipe pipe;
  Calls::Call call(calls_, {.held_up = [this] { one_is_held_up(); },
                            .answer =
                                [this](const fuse_in_header& header, int error) {
                                  (void)send(header.unique, error, {}, {});
                                  return true;
                                }});
  while (message.ok() && payload.ok() && !threads_.is_stopping() && is_mounted()) {
    reading_.fetch_add(1, std::memory_order_relaxed);
    const ssize_t size = ::read(descriptor_.get(), message.bytes().data(), kMessageRoom);
    const int error = errno;
    const bool was_last = reading_.fetch_sub(1, std::memory_order_relaxed) == 1;
    if (size < 0) {
      // ENOENT: the request was aborted before it was read.
      if (error == EINTR || error == EAGAIN || error == ENOENT) continue;
      if (!gone_.exchange(true) && options_.on_end) options_.on_end();
      return;
    }
    if (was_last && may_begin()) (void)threads_.begin([this] { serve(); });
    serve_one(message.bytes().first(static_cast<std::size_t>(size)), payload.bytes(), pipe, call);
    if (!call.was_held_up()) continue;
    held_up_.fetch_sub(1, std::memory_order_relaxed);
    // Others have come in its place.
    if (reading_.load(std::memory_order_relaxed) > 0 && !may_begin()) return;
  }
}

bool Device::may_begin() const {
  return threads_.size() < most_threads() + held_up_.load(std::memory_order_relaxed);
}

// Somebody must read, or nothing else is served.
void Device::one_is_held_up() {
  const std::size_t held_up = 1 + held_up_.fetch_add(1, std::memory_order_relaxed);
  if (reading_.load(std::memory_order_relaxed) == 0 && held_up < kMostHeldUp) {
    (void)threads_.begin([this] { serve(); });
  }
}

// What comes to be read beside rings is done at once.
std::size_t Device::most_threads() const { return uses_rings() ? 1 : options_.most_threads; }

void Device::serve_one(std::span<const std::byte> bytes, std::span<std::byte> room, Pipe& pipe,
                       Calls::Call& call) {
  Message message;
  const Result<void> decoded = decode(bytes, session_.negotiated(), message);
  if (!decoded.ok()) {
    if (message.header.unique != 0) {
      (void)send(message.header.unique, decoded.error().value, {}, {});
    }
    return;
  }
  Reply reply;
  call.begin(message.header);
  if (!answer(message, reply, room, pipe, call)) {
    session_.undo(reply);
    Session::deliver_notices();
    (void)call.end();
    return;
  }
  Session::deliver_notices();
}

// False: the request was answered in our place.
bool Device::answer(Message& message, Reply& reply, std::span<std::byte> room, Pipe& pipe,
                    Calls::Call& call) {
  if (calls_.are_most_given_up() && Calls::may_refuse(message.header.opcode)) {
    reply.error = ETIMEDOUT;
  } else {
    if (message.header.opcode == FUSE_READ) reply.most_from_file = pipe.most();
    session_.run(message, room, reply);
  }
  if (reply.from_file.descriptor >= 0) {
    bool wanted = true;
    const auto claim = [&] { return wanted = call.claim(); };
    if (pipe.answer(descriptor_.get(), message.header.unique, reply.from_file, room, claim).ok()) {
      return wanted;
    }
    reply = {};  // with a copy, then, and its errors
    session_.run(message, room, reply);
  }
  if (!call.claim()) return false;
  if (reply.none) return true;
  const bool taken = send(message.header.unique, reply.error,
                          std::span(reply.fixed).first(reply.fixed_bytes), reply.payload);
  if (!taken) session_.undo(reply);
  if (taken && message.header.opcode == FUSE_INIT && rings_ != nullptr) begin_rings(reply);
  return true;
}

// After the answer to FUSE_INIT.
void Device::begin_rings(const Reply& reply) {
  if (!agrees_on_rings(reply)) {
    (void)rings_->stop();
    return;
  }
  rings_on_.store(true, std::memory_order_release);
  rings_->start();
}

std::uint64_t Device::init_flags() const { return rings_ != nullptr ? abi::kOverIoUring : 0; }

bool Device::send(std::uint64_t unique, int error, std::span<const std::byte> fixed,
                  std::span<const std::byte> payload) {
  if (rings_ != nullptr && rings_->answer(unique, error)) return true;
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
