// SPDX-License-Identifier: Apache-2.0
//
// The shared-memory transport: sessions and requests of `ipc`, given to the dispatcher.
//
// THREADS: start() and stop() by one thread, counts() by any. Requests run in ipc's threads.
#ifndef LIBSERVICES_SRC_HOST_RCQB_TRANSPORT_H_
#define LIBSERVICES_SRC_HOST_RCQB_TRANSPORT_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "ipc/copy_table.h"
#include "ipc/session.h"
#include "src/host/dispatcher.h"
#include "src/host/sessions.h"
#include "src/host/stuck_calls.h"

namespace libservices::host {

class RcqbTransport {
 public:
  struct Config {
    std::string run_directory;
    mode_t socket_mode = 0600;
    std::size_t most_workers = 0;  // 0: ipc's own choice
    ipc::CopyTable copies;         // how large answers are handed over in parts
    bool bind_threads = true;      // to the cores of their group
    std::size_t most_sessions = 4096;
  };

  RcqbTransport(Dispatcher& dispatcher, Sessions& sessions, StuckCalls& stuck_calls)
      : dispatcher_(dispatcher), sessions_(sessions), stuck_calls_(stuck_calls) {}
  ~RcqbTransport() { (void)stop(); }
  RcqbTransport(const RcqbTransport&) = delete;
  RcqbTransport& operator=(const RcqbTransport&) = delete;

  // ERRORS: for a person to read.
  absl::Status start(const Config& config);
  // Ends the requests that run, and all sessions. False: some requests do not end in this time, and
  // nothing that they use may be destroyed.
  bool stop(std::chrono::milliseconds most = ipc::Patience::kForEver);

  struct Counts {
    std::size_t queues = 0;
    unsigned workers = 0;
    std::uint64_t opened = 0;   // sessions since the start
    std::uint64_t refused = 0;  // doorbells and messages that no filesystem library writes
  };
  Counts counts() const;

 private:
  void handle(ipc::ServerSession& session, const ipc::TakenRequest& request,
              ipc::RequestBuffer& buffer);
  int welcome(ipc::ServerSession& session, ipc::Message& reply);
  bool message(ipc::ServerSession& session, std::span<const std::byte> bytes,
               std::span<const int> received, ipc::Message& reply);

  Dispatcher& dispatcher_;
  Sessions& sessions_;
  StuckCalls& stuck_calls_;
  ipc::CopyTable copies_;
  std::unique_ptr<ipc::SessionListener> listener_;
  std::thread thread_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_RCQB_TRANSPORT_H_
