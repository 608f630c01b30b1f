// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/client.h"

#include <fmt/format.h>

#include <cstdio>
#include <system_error>

namespace libservices::ceph_internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// For calls that are inside when the client ends, and for dead mounts.
constexpr seconds kMostForTheLast{5};
// What the cluster refuses soon after it has shut the client out may be the way there.
constexpr seconds kMostForShuttingOut{1};
// A file that was closed stays open at the cluster for one to two of these.
constexpr seconds kIdleRound{1};

struct Registry {
  std::mutex mutex;  // guards clients, and the users of each
  std::vector<std::shared_ptr<Client>> clients;
};
Registry& registry() {
  static Registry* const all = new Registry;  // outlives whoever leaves at exit
  return *all;
}

Timestamp timestamp(const timespec& time) {
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec), 0};
}

}  // namespace

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

absl::Status Client::start() {
  auto made = Mount::make(config_, 1);
  if (!made.ok()) return made.status();
  // The monitors have that time, and the MDS.
  const auto deadline = Clock::now() + 2 * config_.mount_timeout + kMostForShuttingOut;
  const auto goes_on = [deadline] { return Clock::now() < deadline; };
  if (absl::Status started = Mount::start(*made, Mount::Session::kTakeOver, goes_on);
      !started.ok()) {
    return started;
  }
  identify(**made);
  const std::lock_guard lock(mutex_);
  show(*std::move(made));
  try {
    idle_end_ = std::thread([this] { end_idle_in_time(); });
  } catch (const std::system_error&) {
    keeps_idle_.store(false);
  }
  return absl::OkStatus();
}

Result<std::shared_ptr<Client>> Client::forgetful(std::unique_lock<std::mutex>& lock) {
  lock = std::unique_lock(forgetful_mutex_);
  if (forgetful_ == nullptr) {
    ClientConfig config = config_;
    config.cache_bytes = 1U << 20U;
    config.dirty_bytes = 0;
    config.remembers_names = false;
    if (!config.session.empty()) config.session += "/renames";
    auto joined = join(config);
    if (!joined.ok()) {
      std::fputs(fmt::format("{}\n", std::string(joined.status().message())).c_str(), stderr);
      return Errno{EIO};
    }
    forgetful_ = *std::move(joined);
  }
  return forgetful_;
}

absl::Status Client::leave() {
  Registry& all = registry();
  std::unique_lock registered(all.mutex);
  if (--users_ > 0) return absl::OkStatus();
  std::erase_if(all.clients, [this](const auto& client) { return client.get() == this; });
  const std::shared_ptr<Client> forgetful = std::exchange(forgetful_, nullptr);
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }
  if (recovery_.joinable()) recovery_.join();
  keeps_idle_.store(false);
  if (idle_end_.joinable()) idle_end_.join();
  end_idle(Idle::Which::kAll);

  Mount* const last = current_.exchange(nullptr);
  const Clock::time_point deadline = Clock::now() + kMostForTheLast;
  absl::Status left;
  if (last != nullptr) {
    while (last->has_calls() && Clock::now() < deadline)
      std::this_thread::sleep_for(milliseconds(1));
    left = last->has_calls() ? last->failure("unmounting", -EBUSY,
                                             "calls wait for the cluster: what was not "
                                             "synchronised may be lost")
                             : last->end();
  }
  {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [this] { return draining_ == 0; });
  }
  registered.unlock();
  if (forgetful != nullptr) left.Update(forgetful->leave());
  return left;
}

Client::~Client() = default;

Result<void> Client::is_alive(const Use& use, const Result<Inode*>& inode, unsigned wanted) {
  if (!inode.ok()) return inode.error();
  Statx seen{};
  const int answer = ceph_ll_getattr(use.info(), *inode, &seen, wanted, 0, own_permissions());
  if (answer < 0) return failed(use, answer);
  return {};
}

void Client::synchronise() {
  const Use use = try_use();
  if (!use) return;
  Unsynced::Everything all = unsynced_.everything();
  if (ceph_sync_fs(use.info()) < 0) return;
  Inode* root = nullptr;
  if (ceph_ll_lookup_root(use.info(), &root) < 0) return;
  const bool alive = is_alive(use, root).ok();
  ceph_ll_put(use.info(), root);
  if (alive && !use.is_dead()) unsynced_.synchronised(std::move(all));
}

bool Client::keep_idle(const Use& use, std::uint64_t number, const UserPerm* permissions,
                       Fh* handle) {
  if (!keeps_idle_.load() || !idle_.keep(number, {use.mount(), permissions}, handle)) return false;
  if (idle_end_waits_.load()) {  // or it sees the handle
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
  }
  return true;
}

void Client::end_idle(Idle::Which which) {
  for (const auto& [opener, handle] : idle_.end(which)) {
    const Use use = try_use();
    if (use && use.mount() == opener.mount) (void)ceph_ll_close(use.info(), handle);
  }
}

// Rests while nothing is idle.
void Client::end_idle_in_time() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    idle_end_waits_.store(true);
    changed_.wait(lock, [this] { return stopped_ || !idle_.empty(); });
    idle_end_waits_.store(false);
    changed_.wait_for(lock, kIdleRound, [this] { return stopped_; });
    lock.unlock();
    end_idle(Idle::Which::kOld);
    lock.lock();
  }
}

Result<Use> Client::wait_for_mount() {
  std::unique_lock lock(mutex_);
  if (!stopped_ && !recovering_ && current_.load() == nullptr) begin_recovery();
  changed_.wait_until(lock, died_ + config_.mount_timeout,
                      [this] { return current_.load() != nullptr || stopped_ || refused_; });
  Use use = try_use();
  if (!use) return Errno{EIO};
  return use;
}

void Client::bury(Mount* mount) {
  mount->die();  // what it answers from now on is nothing, whoever looks
  const std::lock_guard lock(mutex_);
  if (!current_.compare_exchange_strong(mount, nullptr)) return;
  died_ = Clock::now();
  if (!stopped_ && !recovering_) begin_recovery();
}

// REQUIRES: mutex_.
void Client::begin_recovery() {
  if (recovery_.joinable()) recovery_.join();  // it has nothing left to do
  try {
    recovery_ = std::thread([this] { recover(); });
    recovering_ = true;
  } catch (const std::system_error&) {
    // There is no thread to be had: the next call tries again.
  }
}

void Client::recover() {
  std::unique_lock lock(mutex_);
  const std::shared_ptr<Mount> dead = mounts_.back();
  bool told = false;
  // One attempt waits for the cluster as long as it takes: each has threads and memory of its own.
  const auto goes_on = [this] {
    const std::lock_guard asking(mutex_);
    return !stopped_;
  };
  for (milliseconds pause{20};; pause = std::min<milliseconds>(pause * 2, seconds(5))) {
    lock.unlock();
    auto made = Mount::make(config_, dead->generation() + 1);
    absl::Status status = made.status();
    if (status.ok()) status = Mount::start(*made, Mount::Session::kRespect, goes_on);
    if (status.ok()) {
      take_again(**made);
      if ((*made)->is_dead())
        status = (*made)->failure("mounting", -ESHUTDOWN, "it is tried again");
    }
    // Before anybody can use the next one.
    if (status.ok()) unsynced_.lose(dead->generation());
    lock.lock();
    if (stopped_) break;
    if (status.ok()) {
      show(*std::move(made));
      refused_ = false;
      break;
    }
    refused_ = !absl::IsDeadlineExceeded(status) && Clock::now() - died_ > kMostForShuttingOut;
    if (refused_ && !std::exchange(told, true)) {
      std::fputs(fmt::format("{}\nceph: the cluster had shut this client out; it goes on trying\n",
                             std::string(status.message()))
                     .c_str(),
                 stderr);
    }
    changed_.notify_all();
    changed_.wait_for(lock, pause, [this] { return stopped_; });
    if (stopped_) break;
  }
  recovering_ = false;
  changed_.notify_all();
  drain(dead);
}

// REQUIRES: mutex_.
void Client::show(std::shared_ptr<Mount> mount) {
  generation_.store(mount->generation(), std::memory_order_release);
  current_.store(mount.get());
  mounts_.push_back(std::move(mount));
}

void Client::take_again(Mount& mount) {
  const Use use(&mount);
  const std::lock_guard lock(keepers_mutex_);
  for (Keeper* const keeper : keepers_) keeper->take_again(use);
}

// REQUIRES: mutex_. On a thread of its own: a call may wait for an OSD that is dead, too.
void Client::drain(const std::shared_ptr<Mount>& mount) {
  try {
    std::thread([client = shared_from_this(), mount] {
      milliseconds pause{1};
      while (mount->has_calls()) {
        std::this_thread::sleep_for(pause);
        pause = std::min<milliseconds>(pause * 2, seconds(1));
      }
      (void)mount->end();
      const std::lock_guard lock(client->mutex_);
      --client->draining_;
      client->changed_.notify_all();
    }).detach();
    ++draining_;
  } catch (const std::system_error&) {
    // It is ended with the client.
  }
}

void Client::add(Keeper* keeper) {
  const std::lock_guard lock(keepers_mutex_);
  keepers_.push_back(keeper);
}

void Client::remove(Keeper* keeper) {
  const std::lock_guard lock(keepers_mutex_);
  std::erase(keepers_, keeper);
}

void Client::identify(const Mount& mount) {
  std::array<char, 128> cluster{};
  // Of the root, which answers for all of the cluster.
  if (ceph_getxattr(mount.info(), "/", "ceph.cluster_fsid", cluster.data(), cluster.size() - 1) <=
          0 &&
      ceph_conf_get(mount.info(), "fsid", cluster.data(), cluster.size()) < 0) {
    cluster[0] = '\0';
  }
  name_ = fmt::format("{}/{}", cluster.data(), ceph_get_fs_cid(mount.info()));
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
