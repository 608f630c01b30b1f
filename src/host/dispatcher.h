// SPDX-License-Identifier: Apache-2.0
//
// From a request to a filesystem instance: what every transport of the service calls.
//
// A call's operation, instance and words are the transport's private copy. Its input and output
// are the request buffer itself, which a hostile peer changes while we look: paths and names are
// copied before they are read, file bytes move straight between buffer and filesystem, and
// nothing that was written there is read back. Every length, count, flag and enumeration is
// checked here; identity comes from the session alone.
//
// THREADS: `run` may be called at once, for one session too. It never throws.
#ifndef LIBSERVICES_SRC_HOST_DISPATCHER_H_
#define LIBSERVICES_SRC_HOST_DISPATCHER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ipc/copy_table.h"
#include "src/host/backing_descriptor.h"
#include "src/host/kept_files.h"
#include "src/host/kernel_objects.h"
#include "src/host/open_files.h"
#include "src/host/partial_counts.h"
#include "src/host/placeholders.h"
#include "src/protocol/messages.h"

namespace libservices::fuse {
class Session;
}

namespace libservices::host {

class Watches;

// A filesystem of the service, and where it is mounted.
struct Instance {
  std::string path;
  std::string spec;
  std::unique_ptr<AnyFilesystem> filesystem;
  std::unique_ptr<PartialCounts> partial_files = nullptr;  // of one that has such, once it runs
  fuse::Session* mount = nullptr;                          // at the kernel; null: there is none
};
using FilesystemTable = std::vector<Instance>;  // by instance index; fixed while requests run

// What the host knows of one connected process.
struct ClientSession {
  ClientSession(Placeholders::Session id, std::shared_ptr<const Caller> caller,
                std::size_t most_open_files, std::uint32_t first_generation)
      : id(id),
        caller(std::move(caller)),
        handles(std::make_shared<HandleTable>(most_open_files, this->caller->process,
                                              first_generation)) {}

  const Placeholders::Session id;
  const std::shared_ptr<const Caller> caller;
  const std::shared_ptr<HandleTable> handles;
  LentDescriptors lent;
  std::atomic<std::uint64_t> requests{0};
};

struct Call {
  protocol::Operation operation{};
  std::uint32_t instance = 0;
  std::array<std::uint64_t, protocol::kRequestWords> words{};
  std::uint32_t number = 0;          // as ipc counts it; 0: none
  std::uint32_t repeats = 0;         // of the lost request that this one is again; 0: of none
  std::span<const std::byte> input;  // a private copy, or the same memory as the output
  std::span<std::byte> output;
  std::atomic<std::uint32_t>* read_progress = nullptr;  // see Context
  const ipc::CopyTable* copies = nullptr;               // with it: how large the parts are
};

struct Answer {
  std::int32_t error = 0;  // 0, an errno, or protocol::kOutside
  std::uint32_t output_bytes = 0;
  std::uint32_t word_bytes = 0;  // of `words` used
  std::array<std::uint64_t, protocol::kAnswerWords> words{};
  bool malformed = false;  // no filesystem library writes such a request
};

// The flags of an open file as F_GETFL of a program shall report them.
std::uint32_t reported_flags(OpenFlags flags);

inline constexpr std::size_t kOperations = static_cast<std::size_t>(protocol::Operation::kLast) + 1;
extern const std::array<std::string_view, kOperations> kProtocolOperationNames;

class Dispatcher {
 public:
  Dispatcher(const FilesystemTable& filesystems, Placeholders& placeholders, KeptFiles& kept_files,
             KernelObjects& objects, Watches& watches)
      : filesystems_(filesystems),
        placeholders_(placeholders),
        kept_files_(kept_files),
        objects_(objects),
        watches_(watches) {}

  void run(ClientSession& session, const Call& call, Answer& answer) noexcept;
  // Nobody will hear of this answer: what it has given goes.
  void undo(ClientSession& session, const Call& call, const Answer& answer) noexcept;

  struct Counts {
    std::array<std::uint64_t, kOperations> requests{};
    std::uint64_t errors = 0;     // answered with an errno
    std::uint64_t malformed = 0;  // refused before any filesystem saw them
  };
  Counts counts() const;

 private:
  class Run;  // of one call (dispatcher_run.h)
  // One for some of the threads, so that counting costs no cache line that travels.
  struct alignas(64) Shard {
    std::array<std::atomic<std::uint64_t>, kOperations> requests{};
    std::atomic<std::uint64_t> errors{0};
    std::atomic<std::uint64_t> malformed{0};
  };
  Shard& shard();

  const FilesystemTable& filesystems_;
  Placeholders& placeholders_;
  KeptFiles& kept_files_;
  KernelObjects& objects_;
  Watches& watches_;
  std::array<Shard, 16> shards_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_DISPATCHER_H_
