// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <shared_mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace libservices::ceph_internal {
namespace {

struct Registry {
  std::mutex mutex;  // guards clients, and the users of each
  std::vector<std::shared_ptr<Client>> clients;
};
Registry& registry() {
  static Registry* const all = new Registry;  // outlives whoever leaves at exit
  return *all;
}

// What a UserPerm refers to is part of it.
struct Caller {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;

  bool is(uid_t other_uid, gid_t other_gid, std::span<const gid_t> others) const {
    return uid == other_uid && gid == other_gid &&
           std::equal(groups.begin(), groups.end(), others.begin(), others.end());
  }
  friend bool operator==(const Caller&, const Caller&) = default;
  template <class H>
  friend H AbslHashValue(H hash, const Caller& caller) {
    return H::combine(std::move(hash), caller.uid, caller.gid, caller.groups);
  }
};
struct Known {
  Caller caller;
  UserPerm* permissions;
};
// Callers by all of their numbers, for ever: so many that no machine has them.
constexpr std::size_t kMostCallers = 65536;

struct Callers {
  std::shared_mutex mutex;  // guards known
  absl::flat_hash_map<Caller, std::unique_ptr<Known>> known;
};
Callers& callers() {
  static Callers* const all = new Callers;
  return *all;
}

const Known* find_caller(Caller caller) {
  Callers& all = callers();
  {
    std::shared_lock lock(all.mutex);
    if (const auto found = all.known.find(caller); found != all.known.end()) {
      return found->second.get();
    }
  }
  std::unique_lock lock(all.mutex);
  // Then only the owner counts, where the key has rights for some groups alone.
  if (all.known.size() >= kMostCallers) caller.groups.clear();
  auto& slot = all.known[caller];
  if (slot == nullptr) {
    auto fresh = std::make_unique<Known>(Known{std::move(caller), nullptr});
    Caller& kept = fresh->caller;
    fresh->permissions = ceph_userperm_new(kept.uid, kept.gid, static_cast<int>(kept.groups.size()),
                                           kept.groups.data());
    slot = std::move(fresh);
  }
  return slot.get();
}

// A keyring has the names of clients; a key file has the key alone.
Result<bool> is_keyring(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return last_errno();
  char first = '\0';
  ssize_t size = 1;
  do {
    size = ::read(fd, &first, 1);
  } while ((size == 1 && std::isspace(static_cast<unsigned char>(first)) != 0) ||
           (size < 0 && errno == EINTR));
  const Errno failed = last_errno();
  ::close(fd);
  if (size < 0) return failed;
  return first == '[' || first == '#' || first == ';';
}

std::string whole_seconds(std::chrono::nanoseconds time) {
  return std::to_string(std::chrono::ceil<std::chrono::seconds>(time).count());
}

Timestamp timestamp(const timespec& time) {
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec), 0};
}

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t number = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : text) number = (number ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return number;
}

}  // namespace

Errno error_of(std::int64_t answer) {
  const std::int64_t error = -answer;
  switch (error) {
    case ESHUTDOWN:  // the cluster has shut this client out
    case ENOTCONN:   // it is not mounted, or not any more
    case ENOTRECOVERABLE:
      return Errno{EIO};
    default:
      return Errno{error > 0 && error < 4096 ? static_cast<int>(error) : EIO};
  }
}

const UserPerm* permissions_of(uid_t uid, gid_t gid, std::span<const gid_t> groups) {
  thread_local const Known* last = nullptr;
  if (last == nullptr || !last->caller.is(uid, gid, groups)) {
    last = find_caller({uid, gid, {groups.begin(), groups.end()}});
  }
  return last->permissions;
}

absl::StatusOr<std::shared_ptr<Client>> Client::join(const ClientConfig& config) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  for (const auto& client : all.clients) {
    if (client->config_ == config) {
      ++client->users_;
      return client;
    }
  }
  auto client = std::make_shared<Client>(config);
  if (absl::Status started = client->start(); !started.ok()) return started;
  client->users_ = 1;
  all.clients.push_back(client);
  return client;
}

absl::Status Client::leave() {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  if (--users_ > 0) return absl::OkStatus();
  gone_.store(true, std::memory_order_release);
  const int answer = ceph_unmount(mount_);
  mounted_ = false;
  absl::Status left;
  if (answer < 0) left = failure("unmounting", answer, "what was not synchronised may be lost");
  std::erase_if(all.clients, [this](const auto& client) { return client.get() == this; });
  return left;
}

Client::~Client() {
  if (mount_ == nullptr) return;
  if (mounted_) (void)ceph_unmount(mount_);
  (void)ceph_release(mount_);
}

absl::Status Client::failure(std::string_view what, int answer, std::string_view mend) const {
  return absl::Status(absl::ErrnoToStatusCode(-answer),
                      fmt::format("ceph: client.{}: {}: {} ({})", config_.client, what,
                                  std::strerror(-answer), mend));
}

absl::Status Client::configure() {
  std::string conf = config_.conf_file;
  if (conf.empty() && !config_.cluster.empty()) {
    conf = fmt::format("/etc/ceph/{}.conf", config_.cluster);
  }
  if (const int answer = ceph_conf_read_file(mount_, conf.empty() ? nullptr : conf.c_str());
      answer < 0) {
    return failure(conf.empty() ? "the cluster's configuration" : conf, answer,
                   "name the cluster's ceph.conf with conf=FILE or in CEPH_CONF");
  }
  struct Setting {
    const char* key;
    std::string value;
  };
  // A larger share of dirty bytes makes libcephfs write at a third of its speed.
  const std::uint64_t dirty = config_.dirty_bytes == 0
                                  ? config_.cache_bytes / 2
                                  : std::min(config_.dirty_bytes, config_.cache_bytes / 2);
  std::vector<Setting> settings{
      // Filesystem has checked the caller's permissions. SOURCE: the low-level calls look at the
      // second of these.
      {"client_permissions", "false"},
      {"fuse_default_permissions", "true"},
      {"client_acl_type", "posix_acl"},
      {"client_dirsize_rbytes", "false"},  // else any write changes all directories above
      {"client_oc_size", std::to_string(config_.cache_bytes)},
      {"client_oc_max_dirty", std::to_string(dirty)},
      // A file of up to 4 MiB is an object: else small files would not fill the cache.
      {"client_oc_max_objects",
       std::to_string(std::max<std::uint64_t>(config_.cache_bytes / 65536, 1000))},
      {"client_oc_target_dirty", std::to_string(std::min<std::uint64_t>(dirty / 2, 8U << 20U))},
      {"client_mount_timeout", whole_seconds(config_.mount_timeout)},
      {"client_shutdown_timeout", "1"},
      {"rados_osd_op_timeout", whole_seconds(config_.data_timeout)},
      // Several clients of one process would fight for the socket, and write to its standard error.
      {"admin_socket", ""},
      {"log_to_stderr", "false"},
      {"err_to_stderr", "false"},
      {"log_file", ""},
  };
  if (!config_.filesystem.empty()) settings.push_back({"client_fs", config_.filesystem});
  if (!config_.key_file.empty()) {
    const Result<bool> keyring = is_keyring(config_.key_file);
    if (!keyring.ok()) {
      return failure(config_.key_file, -keyring.error().value,
                     "the service must be able to read the key file");
    }
    settings.push_back({*keyring ? "keyring" : "keyfile", config_.key_file});
  } else if (!config_.cluster.empty()) {
    settings.push_back({"keyring", fmt::format("/etc/ceph/{}.client.{}.keyring", config_.cluster,
                                               config_.client)});
  }
  for (const Setting& setting : settings) {
    if (const int answer = ceph_conf_set(mount_, setting.key, setting.value.c_str()); answer < 0) {
      return failure(fmt::format("{} = {}", setting.key, setting.value), answer,
                     "this libcephfs2 does not know it");
    }
  }
  return absl::OkStatus();
}

absl::Status Client::make() {
  if (const int answer = ceph_create(&mount_, config_.client.c_str()); answer < 0) {
    mount_ = nullptr;
    return failure("making a client", answer, "is there memory left?");
  }
  return configure();
}

absl::StatusOr<std::shared_ptr<Client>> Client::configured(const ClientConfig& config) {
  auto client = std::make_shared<Client>(config);
  if (absl::Status made = client->make(); !made.ok()) return made;
  return client;
}

absl::Status Client::start() {
  if (absl::Status made = make(); !made.ok()) return made;
  constexpr std::string_view kNoKey =
      "is there a key for this client in its keyring, or in the file that key=FILE names?";
  if (const int answer = ceph_init(mount_); answer < 0) {
    return failure("connecting", answer,
                   answer == -ETIMEDOUT ? "no monitor answers: is the cluster up?" : kNoKey);
  }
  if (!config_.session.empty()) {
    // What an earlier process of that session held is given back at once, not after a minute.
    const int answer = ceph_start_reclaim(mount_, config_.session.c_str(), CEPH_RECLAIM_RESET);
    if (answer < 0 && answer != -ENOENT) {
      return failure("taking over the session", answer,
                     answer == -ETIMEDOUT ? "no MDS answers: is one active?"
                                          : "leave out session=, and wait a minute");
    }
    ceph_finish_reclaim(mount_);
    ceph_set_uuid(mount_, config_.session.c_str());
  }
  if (const int answer = ceph_mount(mount_, config_.root.c_str()); answer < 0) {
    return failure(fmt::format("mounting {}", config_.root), answer,
                   answer == -ETIMEDOUT ? "no MDS answers: is one active?"
                   : answer == -EPERM
                       ? "may the key reach it? name the directory that it may with root="
                   : answer == -ENOENT ? "make that directory, or correct root= or filesystem="
                                       : kNoKey);
  }
  mounted_ = true;
  identify();
  return absl::OkStatus();
}

void Client::identify() {
  std::array<char, 128> cluster{};
  // Of the root, which answers for all of the cluster.
  if (ceph_getxattr(mount_, "/", "ceph.cluster_fsid", cluster.data(), cluster.size() - 1) <= 0 &&
      ceph_conf_get(mount_, "fsid", cluster.data(), cluster.size()) < 0) {
    cluster[0] = '\0';
  }
  name_ = fmt::format("{}/{}", cluster.data(), ceph_get_fs_cid(mount_));
  // Neither a device of the host nor, as st_dev is shown, 0.
  device_ = (hash_of(name_) & 0x7fffffffU) | 0x40000000U;
}

Attributes Client::attributes_of(const Statx& seen) const {
  Attributes a;
  // Objects in a snapshot have the numbers of those that they were made from.
  a.device = device_ ^ (seen.stx_dev == kNoSnapshot ? 0 : (seen.stx_dev + 1) << 32U);
  a.inode = seen.stx_ino;
  a.mode = seen.stx_mode;
  a.links = seen.stx_nlink;
  a.uid = seen.stx_uid;
  a.gid = seen.stx_gid;
  a.special_device = seen.stx_rdev;
  a.size = seen.stx_size;
  a.blocks = seen.stx_blocks;
  a.block_size = seen.stx_blksize;
  a.atime = timestamp(seen.stx_atime);
  a.mtime = timestamp(seen.stx_mtime);
  a.ctime = timestamp(seen.stx_ctime);
  a.btime = timestamp(seen.stx_btime);
  return a;
}

}  // namespace libservices::ceph_internal
