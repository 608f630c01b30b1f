// SPDX-License-Identifier: Apache-2.0
//
// A filesystem service in your process: filesystem instances of a catalog, served over shared
// memory to the programs that use its run directory; and the whole command `libservices` with a
// catalog of your own.
//
//   int main(int argc, char** argv) {
//     libservices::Catalog catalog = libservices::standard_catalog();
//     catalog.add<Greeting>("greeting");
//     return libservices::command(argc, argv, catalog);
//   }
//
// Use `Host` to serve from a daemon that does other things too; `Filesystem<Stack>` alone if no
// other program shall see the files.
#ifndef LIBSERVICES_HOST_H_
#define LIBSERVICES_HOST_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "libservices/catalog.h"

namespace libservices {

struct HostConfig {
  // A mount at the kernel beside shared memory: for programs that cannot be preloaded.
  struct Fuse {
    bool allow_other = false;  // users other than the service's, too
    bool read_only = false;
    // The kernel gathers writes. Who looks through shared memory sees them when it writes them out.
    bool writeback = false;
    // What the kernel has allowed is not checked again, so that capabilities count which only it
    // knows: those of a container's superuser in its user namespace. It decides by the attributes
    // that it keeps: for mounts past which nothing is changed.
    bool kernel_decides = false;
    // Reads, writes and mappings go straight to the host's files where kernel and stack can.
    bool passthrough = true;
    // Requests come over io_uring where the kernel has that enabled, else from /dev/fuse.
    bool io_uring = true;
    std::string source;  // what mount(8) shows as the device; empty: the spec
    std::vector<std::string> mount_options;  // of mount(8): nodev, nosuid, noatime, …
    // The mount is gone, by whoever. For services that end then: status says of others that they go on.
    std::function<void()> on_end;
  };
  struct Mount {
    // Absolute; need not exist on the host. Without `fuse`, `ls` of its parent won't show it then.
    std::string path;
    std::string spec;
    std::optional<Fuse> fuse = std::nullopt;
  };
  // Whose programs may connect. Each call is checked with its caller's own identity either way.
  enum class Clients : std::uint8_t { kOwnUser, kAllUsers };

  std::string pool = "default";  // for messages
  std::string run_directory;     // absolute; made if it is missing
  std::vector<Mount> mounts;
  Clients clients = Clients::kOwnUser;
  enum class Threads : std::uint8_t { kBound, kFree };  // to the cores of their group

  Threads threads = Threads::kBound;
  std::size_t most_workers = 0;         // threads for each core group; 0 = as ipc chooses
  std::size_t most_sessions = 4096;     // connected processes
  std::size_t most_open_files = 65536;  // of one session
  // What `libservices tune` has measured on this machine; without it copies are libc's.
  std::string copy_table = "/var/lib/libservices/copy-table";
  // How long programs wait for another service in this run directory when this one is killed. They
  // go on with their open files then; when none comes, their calls fail with EIO.
  std::chrono::milliseconds restart_wait{5000};
  // How long stop() waits for calls that run, and then as long again for filesystems to close files
  // and to write what they have. Nothing but the end of the process can end a call whose storage
  // does not answer: so the process says what it leaves behind on standard error, and ends, with
  // status kEndedByStuckCalls. 0: stop() waits for ever.
  std::chrono::milliseconds stop_grace{0};
  static constexpr int kEndedByStuckCalls = 74;
  // Somebody starts the process anew when it ends: so it ends, in the same way, when one instance
  // has more than this many calls that were given up at its deadline and do not end, or one that
  // has run for ten times the deadline. 0: it goes on as it is.
  std::size_t most_stuck_calls = 0;
};

// THREADS: start() and stop() by one thread, status() by any between them.
// WARNING: start() sets the process's umask to 0, since the modes of new files are the callers',
// and ignores SIGXFSZ, since a limit on file sizes shall be an error and not the end.
class Host {
 public:
  // OWNS: a copy of the configuration. `catalog` must outlive start().
  Host(HostConfig config, const Catalog& catalog);
  ~Host();  // stops
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // After it programs can connect. ERRORS: anything that is wrong with the configuration or the
  // machine, for a person to read; then nothing of it is left running or lying around.
  absl::Status start();

  // Takes no more requests, ends those that run, closes all files, stops the instances, and
  // removes what is in the run directory. Programs get EIO from then on.
  absl::Status stop();

  // The state as JSON: pool, process, mounts, sessions, open files, requests by operation, errors.
  std::string status() const;

 private:
  class Running;
  const HostConfig config_;
  const Catalog& catalog_;
  std::unique_ptr<Running> running_;
};

// The command line of `libservices` (see its --help), for `main` to return.
int command(int argc, char** argv, const Catalog& catalog);

}  // namespace libservices

#endif  // LIBSERVICES_HOST_H_
