// SPDX-License-Identifier: Apache-2.0
//
// inotify for what is done through the service: a file or directory of the kernel's stands for each
// watched object, its shadow, and what happens to the object is done to the shadow too.
//
// A program's watch is the kernel's, of the shadow, whose O_PATH descriptor it is given after a
// check of its rights; so reading, waiting, coalescing, limits and the end of a watch are the
// kernel's, and an event is there before the call that made it returns. The shadow of a directory
// has the names that the directory has, each an empty file or directory.
//
// A shadow stays while a process watches it, whoever that is: an inotify descriptor is inherited
// and sent, and only the kernel knows who has it (/proc/PID/fdinfo). A service that follows a
// killed one goes on with the shadows; what came and went meanwhile is told then.
//
// THREADS: everything may be called at once; start, adopt, stop and remove by one thread.
#ifndef LIBSERVICES_SRC_HOST_WATCHES_H_
#define LIBSERVICES_SRC_HOST_WATCHES_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "src/host/descriptor.h"
#include "src/host/dispatcher.h"

namespace libservices::host {

class Watches {
 public:
  struct Options {
    bool all_users = false;  // processes of any user may watch
    // Looking for watchers takes time, with many processes some 50 ms.
    std::chrono::seconds between_sweeps{60};
  };
  Watches(const FilesystemTable& filesystems, std::string directory, Options options);
  ~Watches();

  // Makes the directory, or takes over what a killed service has left there. Before the filesystems
  // start. ERRORS: for a person to read.
  absl::Status start();
  // When they have started: goes on with the watches of a killed service.
  void adopt();
  // Lets go of the filesystems.
  void stop();
  // The service ends for good. Shadows that somebody watches stay: taking them away would be told
  // as if the files were gone.
  void remove();

  // The shadow of the object of `file`, an O_PATH descriptor. ERRORS: EACCES when it may not be
  // read; ENOSPC with too many.
  Result<Descriptor> watch(const Context& context, const ServiceOpenFile& file);

  // A path has another name now: the next service finds shadows by theirs.
  void renamed(std::string_view mount, std::string_view from, std::string_view to);

  // Processes have ended: shadows that nobody watches go, some time later. How long until that is
  // due, if it is; and then do it.
  void processes_ended();
  std::chrono::milliseconds wait() const;  // -1: nothing is due
  void sweep_if_due();

  std::size_t count() const;

 private:
  class Listener;
  using Clock = std::chrono::steady_clock;
  using Key = std::pair<std::uint32_t, std::uint64_t>;  // the instance, and the object in it

  struct Shadow {
    std::string name;
    std::string path;  // in its instance, or empty
    OpenFilePtr file;  // keeps the object known
    Clock::time_point given;
    absl::flat_hash_set<std::string> stale;  // names of a killed service's, not seen again yet
  };
  // Of an open file: its being open is told by its shadow's being so.
  struct Held {
    Key shadow;
    bool as_entry;
    Descriptor descriptor;
  };

  Result<void> begin(const Key& key, std::string name, std::string path, const Reference& object);
  void end(const Key& key);
  void sweep(Clock::duration oldest_use);
  Result<Descriptor> descriptor_of(const std::string& name) const;
  std::string find_name(const std::string& bare) const;
  void write_path(const Shadow& shadow) const;
  // REQUIRES: mutex_.
  std::string path_of(const Key& key, std::string_view name);
  bool make(const std::string& path, bool is_directory) const;

  void happened(const Key& key, FileEvent event, const EventListener::Place& place);
  void opened(const Key& key, const OpenFile& file, const EventListener::Place& place);
  void closed(std::uint32_t instance, const OpenFile& file,
              std::span<const EventListener::Place> places);
  void renamed(std::uint32_t instance, const EventListener::Place* from,
               const EventListener::Place* to, bool exchange);
  void moved(const Key& key);
  void removed(const Key& key);

  const FilesystemTable& filesystems_;
  const std::string directory_;
  const Options options_;
  Descriptor opened_;
  std::vector<std::unique_ptr<Listener>> listeners_;  // by instance

  std::mutex making_;         // held while shadows begin and end, before mutex_
  mutable std::mutex mutex_;  // guards what follows; behind the filesystems' locks
  absl::flat_hash_map<Key, Shadow> shadows_;
  absl::flat_hash_map<const OpenFile*, std::vector<Held>> held_;
  std::vector<OpenFilePtr> released_;  // of removed objects: to be let go of without locks
  bool due_ = false;
  Clock::time_point last_sweep_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_WATCHES_H_
