// SPDX-License-Identifier: Apache-2.0
#include "src/host/rcqb_transport.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <any>
#include <cerrno>
#include <cstring>
#include <vector>

#include "src/host/error_status.h"
#include "src/host/run_directory.h"

namespace libservices::host {
namespace {

static_assert(ipc::kRequestWords == protocol::kRequestWords);
static_assert(ipc::kAnswerWords == protocol::kAnswerWords);
static_assert(protocol::kMostAdopted <= ipc::kMostDescriptors);
static_assert(protocol::kStockRefill <= ipc::kMostDescriptors);

using SessionPtr = std::shared_ptr<ClientSession>;

void attach(ipc::Message& reply, std::vector<Descriptor>& descriptors) {
  for (Descriptor& descriptor : descriptors) reply.descriptors.push_back(descriptor.release());
}

}  // namespace

absl::Status RcqbTransport::start(const Config& config) {
  ipc::SessionListener::Hooks hooks;
  hooks.handle = [this](ipc::ServerSession& session, const ipc::TakenRequest& request,
                        ipc::RequestBuffer& buffer) { handle(session, request, buffer); };
  hooks.welcome = [this](ipc::ServerSession& session, ipc::Message& reply) {
    return welcome(session, reply);
  };
  hooks.message = [this](ipc::ServerSession& session, std::span<const std::byte> bytes,
                         std::span<const int> received,
                         ipc::Message& reply) { return message(session, bytes, received, reply); };
  hooks.closed = [this](ipc::ServerSession& session) {
    if (const auto* known = std::any_cast<SessionPtr>(&session.upper)) sessions_.close(*known);
  };
  copies_ = config.copies;
  ipc::BackDriverOptions options;
  options.bind_threads = config.bind_threads;
  options.patience = &stuck_calls_;
  if (config.most_workers != 0) {
    options.most_threads = static_cast<unsigned>(config.most_workers);
  }
  listener_ = std::make_unique<ipc::SessionListener>(
      config.run_directory, std::move(hooks), options,
      ipc::SessionLimits{.sessions = static_cast<unsigned>(config.most_sessions)});
  if (absl::Status started = listener_->start(); !started.ok()) {
    listener_.reset();
    return started;
  }
  const std::string socket = socket_path(config.run_directory);
  if (::chmod(socket.c_str(), config.socket_mode) != 0) {
    return error_status(errno, fmt::format("{}: cannot set its mode: {} (remove it)", socket,
                                           std::strerror(errno)));
  }
  thread_ = std::thread([this] { listener_->run(); });
  return absl::OkStatus();
}

bool RcqbTransport::stop(std::chrono::milliseconds most) {
  if (listener_ == nullptr) return true;
  if (thread_.joinable()) {
    listener_->stop();
    thread_.join();
  }
  return listener_->finish(most);
}

RcqbTransport::Counts RcqbTransport::counts() const {
  if (listener_ == nullptr) return {};
  const ipc::SessionListener::Counts counts = listener_->counts();
  return {.queues = counts.queues,
          .workers = counts.threads,
          .opened = counts.opened,
          .refused = counts.refused};
}

void RcqbTransport::handle(ipc::ServerSession& session, const ipc::TakenRequest& request,
                           ipc::RequestBuffer& buffer) {
  const ipc::RequestHeader& header = request.header;
  const auto* known = std::any_cast<SessionPtr>(&session.upper);
  if (known == nullptr) {
    if (!request.running.claim()) return;
    buffer.answer.error = EINVAL;
    buffer.answer.output_bytes = 0;
    return;
  }
  Call call;
  call.operation = static_cast<protocol::Operation>(header.operation);
  call.instance = header.instance;
  std::memcpy(call.words.data(), header.words, std::size_t{8} * header.word_count);
  call.number = request.number;
  call.repeats = header.repeats;
  call.input = request.input;
  call.output = {buffer.data, ipc::kDataBytes};
  call.read_progress = &buffer.progress;
  call.copies = &copies_;
  Answer answer;
  if (stuck_calls_.are_most(call.instance)) {
    answer.error = ETIMEDOUT;
  } else {
    dispatcher_.run(**known, call, answer);
  }
  if (!request.running.claim()) {
    dispatcher_.undo(**known, call, answer);
    return;
  }
  buffer.answer.error = answer.error;
  buffer.answer.output_bytes = answer.output_bytes;
  std::memcpy(buffer.answer.words, answer.words.data(), answer.word_bytes);
}

int RcqbTransport::welcome(ipc::ServerSession& session, ipc::Message& reply) {
  const ipc::Peer& peer = session.peer();
  Result<SessionPtr> opened = sessions_.open({peer.pid, peer.uid, peer.gid, peer.groups});
  if (!opened.ok()) return opened.error().value;
  session.upper = *opened;
  std::vector<Descriptor> descriptors;
  reply.append(sessions_.welcome(**opened, descriptors));
  attach(reply, descriptors);
  return 0;
}

bool RcqbTransport::message(ipc::ServerSession& session, std::span<const std::byte> bytes,
                            std::span<const int> received, ipc::Message& reply) {
  const auto* known = std::any_cast<SessionPtr>(&session.upper);
  if (known == nullptr) return false;
  protocol::SocketAnswer answer;
  std::vector<Descriptor> descriptors;
  if (!sessions_.message(**known, bytes, received, answer, descriptors)) return false;
  reply.append(answer);
  attach(reply, descriptors);
  return true;
}

}  // namespace libservices::host
