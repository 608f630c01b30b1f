// SPDX-License-Identifier: Apache-2.0
//
// A client of a Ceph cluster with one CephFS mounted, and how libcephfs is spoken to.
//
// For `Ceph` alone. Instances with the same settings share a client: its sessions, its threads and
// its cache. THREADS: all members from any thread; libcephfs has one lock for each client.
// SOURCE: libcephfs of Ceph 16.2, cephfs/libcephfs.h.
#ifndef LIBSERVICES_SERVICES_CEPH_CLIENT_H_
#define LIBSERVICES_SERVICES_CEPH_CLIENT_H_

#include <cephfs/libcephfs.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "libservices/attributes.h"
#include "libservices/context.h"
#include "libservices/result.h"

namespace libservices::ceph_internal {

// What a client is made with; Ceph::Config says what each means.
struct ClientConfig {
  std::string conf_file;
  std::string cluster;
  std::string client = "admin";
  std::string key_file;
  std::string filesystem;
  std::string root = "/";
  std::string session;
  std::uint64_t cache_bytes = std::uint64_t{200} << 20U;
  std::uint64_t dirty_bytes = 0;
  std::chrono::nanoseconds mount_timeout = std::chrono::seconds(5);
  std::chrono::nanoseconds data_timeout{0};

  friend bool operator==(const ClientConfig&, const ClientConfig&) = default;
};

// The one place where what libcephfs answers, a negative number, becomes an errno of ours.
Errno error_of(std::int64_t answer);

// The number of an answer that is one, or its error.
inline Result<std::uint64_t> checked(std::int64_t answer) {
  if (answer < 0) return error_of(answer);
  return static_cast<std::uint64_t>(answer);
}

// As whom the cluster is asked. `Filesystem` has checked the permissions, so this matters where the
// key has them for some users alone, and for the owner of what is made.
// The answer is good for ever: libcephfs looks at groups again when it repeats requests that it
// answered long ago, after an MDS died.
const UserPerm* permissions_of(uid_t uid, gid_t gid, std::span<const gid_t> groups);
inline const UserPerm* permissions_of(const Context& context) {
  return permissions_of(context.caller.uid, context.caller.gid, context.caller.groups);
}

// There is a function of that name, too.
using Statx = struct ceph_statx;
// st_dev of what is in no snapshot; otherwise it is the snapshot's number.
inline constexpr std::uint64_t kNoSnapshot = static_cast<std::uint64_t>(-2);
inline constexpr unsigned kWanted = CEPH_STATX_BASIC_STATS | CEPH_STATX_BTIME;

class Client {
 public:
  // Mounts, or shares what is mounted. `leave` ends that; the last one unmounts.
  // ERRORS: for a person to read; what is in the key file is not among them.
  static absl::StatusOr<std::shared_ptr<Client>> join(const ClientConfig& config);
  absl::Status leave();
  // Made and configured only: nothing is said to the cluster. For its context. Not shared.
  static absl::StatusOr<std::shared_ptr<Client>> configured(const ClientConfig& config);

  explicit Client(ClientConfig config) : config_(std::move(config)) {}
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  ceph_mount_info* mount() const { return mount_; }
  // Unmounted: whoever holds a reference to something of libcephfs's has none any more.
  bool gone() const { return gone_.load(std::memory_order_acquire); }
  // Which filesystem of which cluster.
  const std::string& name() const { return name_; }

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
  // Held, before those of names, while an object comes to another directory.
  NameLock lock_moves() { return NameLock(moves_); }

 private:
  std::size_t place_of(std::uint64_t directory, std::string_view name) const {
    return (std::hash<std::string_view>()(name) ^ (directory * 0x9e3779b97f4a7c15)) % names_.size();
  }
  absl::Status make();
  absl::Status start();
  absl::Status configure();
  absl::Status failure(std::string_view what, int answer, std::string_view mend) const;
  void identify();

  const ClientConfig config_;
  ceph_mount_info* mount_ = nullptr;
  bool mounted_ = false;
  std::string name_;
  std::uint64_t device_ = 0;
  int users_ = 0;  // guarded by the registry's lock
  std::atomic<bool> gone_{false};
  std::mutex moves_;
  std::array<std::mutex, 64> names_;
};

// An object of the cluster, kept in libcephfs for as long as this lives.
class Object {
 public:
  // Takes over one reference.
  Object(std::shared_ptr<Client> client, Inode* inode, const Statx& seen)
      : client_(std::move(client)),
        inode_(inode),
        number_(seen.stx_ino),
        mode_(seen.stx_mode),
        in_snapshot_(seen.stx_dev != kNoSnapshot) {}
  ~Object() {
    if (!client_->gone()) ceph_ll_put(client_->mount(), inode_);
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  Inode* inode() const { return inode_; }
  std::uint64_t number() const { return number_; }
  bool is(std::uint32_t type) const { return (mode_ & S_IFMT) == type; }
  // A snapshot, something in one, or the directory that they are made in.
  bool in_snapshot() const { return in_snapshot_; }
  Client& client() const { return *client_; }

 private:
  const std::shared_ptr<Client> client_;
  Inode* const inode_;
  const std::uint64_t number_;
  const std::uint32_t mode_;
  const bool in_snapshot_;
};
using ObjectPtr = std::shared_ptr<const Object>;

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_CLIENT_H_
