// SPDX-License-Identifier: Apache-2.0
//
// A client of a Ceph cluster with one CephFS mounted.
//
// For `Ceph` alone. Instances with the same settings share a client: its sessions, its threads and
// its cache. When the cluster shuts it out, it mounts anew by itself: `asking` and `changing` are
// how everything is called, so that nothing meets two mounts at once. THREADS: all members from any
// thread; libcephfs has one lock for each mount.
#ifndef LIBSERVICES_SERVICES_CEPH_CLIENT_H_
#define LIBSERVICES_SERVICES_CEPH_CLIENT_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "libservices/attributes.h"
#include "libservices/result.h"
#include "services/ceph/calls.h"
#include "services/ceph/idle_handles.h"
#include "services/ceph/mount.h"
#include "services/ceph/unsynced.h"

namespace libservices::ceph_internal {

// Who holds something in the cluster that another mount must take again before it is used.
class Keeper {
 public:
  virtual ~Keeper() = default;
  virtual void take_again(const Use& fresh) = 0;
};

class Client : public std::enable_shared_from_this<Client> {
 public:
  // Mounts, or shares what is mounted. `leave` ends that; the last one unmounts.
  // ERRORS: for a person to read; what is in the key file is not among them.
  static absl::StatusOr<std::shared_ptr<Client>> join(const ClientConfig& config);
  absl::Status leave();

  explicit Client(ClientConfig config) : config_(std::move(config)) {}
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // What `call(const Use&)` returns, which reads: if the cluster shuts the mount out meanwhile, it
  // is called again on the next one. ERRORS: EIO while there is none, and the call's.
  template <class Call>
  auto asking(Call call) -> decltype(call(std::declval<const Use&>())) {
    for (int left = kTries;; --left) {
      LIBSERVICES_TRY(const Use use, this->use());
      auto answer = call(use);
      if (answer.ok() || !use.is_dead() || left == 0) return answer;
    }
  }

  // What `call(const Use&)` returns, which changes something. It is called once: if the cluster
  // shuts the mount out meanwhile nobody can say whether it was done, and the answer is EIO. So it
  // is asked before, about `near`, which shall be known here, whether the mount is alive.
  template <class Near, class Call>
  auto changing(const Near& near, Call call) -> decltype(call(std::declval<const Use&>())) {
    for (int left = kTries;; --left) {
      LIBSERVICES_TRY(const Use use, this->use());
      const Result<void> alive = is_alive(use, near->in(use), CEPH_STATX_MODE);
      if (!alive.ok() && use.is_dead() && left != 0) continue;
      auto answer = call(use);
      if (!answer.ok() && use.is_dead()) return Errno{EIO};
      return answer;
    }
  }

  // The current mount, or the next one, which is waited for. ERRORS: EIO, while the cluster
  // refuses.
  Result<Use> use() {
    if (Use use = try_use()) return use;
    return wait_for_mount();
  }
  // None while no mount is alive. Never waits.
  Use try_use() const { return Use::of(current_); }
  // What a call in `use` answered, as an error.
  Errno failed(const Use& use, std::int64_t answer) {
    if (is_shut_out(answer)) [[unlikely]]
      bury(use.mount());
    return error_of(answer);
  }
  Result<std::uint64_t> checked(const Use& use, std::int64_t answer) {
    if (answer < 0) return failed(use, answer);
    return static_cast<std::uint64_t>(answer);
  }
  // Whether the client has had its rights on the object until now, by an answer that only they
  // allow. SOURCE: libcephfs 16.2 drops what is not written when it is shut out, and then fsync has
  // nothing to do, and succeeds.
  Result<void> is_alive(const Use& use, const Result<Inode*>& inode, unsigned wanted = kWanted);

  // Which filesystem of which cluster.
  const std::string& name() const { return name_; }
  // How many mounts there were.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  Unsynced& unsynced() { return unsynced_; }
  // All that was written through this client is in the cluster, or it stays in `unsynced`.
  void synchronise();
  // Of a file outside of snapshots that is opened for reading alone: one that is open already, or
  // null.
  Fh* take_idle(const Use& use, std::uint64_t number, const UserPerm* permissions) {
    return idle_.take(number, {use.mount(), permissions});
  }
  // The same when it is closed. False: it is the caller's to close.
  bool keep_idle(const Use& use, std::uint64_t number, const UserPerm* permissions, Fh* handle);
  void add(Keeper* keeper);
  void remove(Keeper* keeper);

  Attributes attributes_of(const Statx& seen) const;

  // Names come, go and change under their locks. SOURCE: a rename whose old name is gone when
  // libcephfs looks for it leaves the new one blocked for all who look it up (Client::_rename,
  // `is_renaming`); and RenameMode::kNoReplace.
  using NameLock = std::unique_lock<std::mutex>;
  NameLock lock_name(std::uint64_t directory, std::string_view name) {
    return NameLock(names_[place_of(directory, name)]);
  }
  std::pair<NameLock, NameLock> lock_names(std::uint64_t directory, std::string_view name,
                                           std::uint64_t other_directory, std::string_view other) {
    const auto [low, high] =
        std::minmax({place_of(directory, name), place_of(other_directory, other)});
    NameLock first(names_[low]);
    return {std::move(first), low == high ? NameLock() : NameLock(names_[high])};
  }
  // Held, after those of names, while the object of that number gets a name, or loses one to
  // another object.
  NameLock lock_links(std::uint64_t number) { return NameLock(links_[number % links_.size()]); }
  // Another client of the same settings, for one caller at a time, who holds `lock`. It remembers
  // no names. It is there from its first use on. ERRORS: EIO, and standard error has the reason.
  Result<std::shared_ptr<Client>> forgetful(std::unique_lock<std::mutex>& lock);
  // Held, before those of names, while an object comes to another directory.
  NameLock lock_moves() { return NameLock(moves_); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kTries = 3;

  std::size_t place_of(std::uint64_t directory, std::string_view name) const {
    return (std::hash<std::string_view>()(name) ^ (directory * 0x9e3779b97f4a7c15)) % names_.size();
  }
  absl::Status start();
  void identify(const Mount& mount);
  Result<Use> wait_for_mount();
  void bury(Mount* mount);
  void begin_recovery();
  // Mounts anew, and again, until the cluster lets it.
  void recover();
  void take_again(Mount& mount);
  void show(std::shared_ptr<Mount> mount);
  // Ends a dead mount when the last call has left it.
  void drain(const std::shared_ptr<Mount>& mount);

  const ClientConfig config_;
  struct Opener {
    const Mount* mount = nullptr;
    const UserPerm* permissions = nullptr;

    friend bool operator==(const Opener&, const Opener&) = default;
  };
  using Idle = IdleHandles<Fh, Opener>;

  void end_idle(Idle::Which which);
  void end_idle_in_time();

  std::string name_;
  std::uint64_t device_ = 0;
  int users_ = 0;  // guarded by the registry's lock
  std::atomic<Mount*> current_{nullptr};
  std::atomic<std::uint64_t> generation_{0};
  Unsynced unsynced_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Mount>> mounts_;  // all there were: who looks at one may be slow
  Clock::time_point died_;
  bool recovering_ = false;
  bool stopped_ = false;
  bool refused_ = false;  // by the cluster, in words: nobody waits for it
  int draining_ = 0;
  std::thread recovery_;

  std::mutex keepers_mutex_;  // guards keepers_, and is held while they are asked
  std::vector<Keeper*> keepers_;

  std::mutex forgetful_mutex_;
  std::shared_ptr<Client> forgetful_;  // guarded by forgetful_mutex_

  Idle idle_;
  std::atomic<bool> keeps_idle_{true};
  std::atomic<bool> idle_end_waits_{false};  // for something to be idle
  std::thread idle_end_;                     // waits in changed_

  std::mutex moves_;
  std::array<std::mutex, 64> names_;
  std::array<std::mutex, 64> links_;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_CLIENT_H_
