// SPDX-License-Identifier: Apache-2.0
//
// One mount of a CephFS: what libcephfs makes of a configuration, from the first call to the last.
//
// When the cluster shuts a client out (evicted by an administrator, or taken for dead), its mount
// is dead for good: libcephfs answers ESHUTDOWN to everything, and what was not synchronised is
// lost. `Client` then makes another one. What belongs to a mount (Inode*, Fh*) is used with that
// one only.
#ifndef LIBSERVICES_SERVICES_CEPH_MOUNT_H_
#define LIBSERVICES_SERVICES_CEPH_MOUNT_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/ceph/calls.h"

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
  std::string service;
  std::uint64_t cache_bytes = std::uint64_t{200} << 20U;
  std::uint64_t dirty_bytes = 0;
  std::chrono::nanoseconds flush_after = std::chrono::seconds(5);
  bool remembers_names = true;
  std::chrono::nanoseconds mount_timeout = std::chrono::seconds(5);
  std::chrono::nanoseconds data_timeout{0};

  friend bool operator==(const ClientConfig&, const ClientConfig&) = default;
};

// FNV-1a: the same in every process.
std::uint64_t hash_of(std::string_view text);

class Mount {
 public:
  // Made and configured: nothing is said to the cluster. `generation` counts a client's mounts.
  // ERRORS: for a person to read; what is in the key file is not among them.
  static absl::StatusOr<std::shared_ptr<Mount>> make(const ClientConfig& config,
                                                     std::uint64_t generation = 0);
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  // What to do with the one that has the session: it is an earlier process, and dead; or it is
  // another client, which was told to take over. Then this one is refused.
  enum class Session { kTakeOver, kRespect };
  // While the monitors or the MDS do not answer, libcephfs may wait for ever. It is left to that
  // when `goes_on`, asked now and then, says no; if they answer at last, the mount ends by itself.
  static absl::Status start(const std::shared_ptr<Mount>& mount, Session session,
                            const std::function<bool()>& goes_on);
  // Ends it. REQUIRES: nobody is inside, nor will be.
  absl::Status end();

  ceph_mount_info* info() const { return info_; }
  std::uint64_t generation() const { return generation_; }
  bool is_dead() const { return dead_.load(); }
  // Before anybody looks whether there are calls, or what they have not synchronised.
  void die() { dead_.store(true); }
  bool has_calls() const;
  absl::Status failure(std::string_view what, int answer, std::string_view mend) const;

 private:
  friend class Use;
  // Calls that are inside, counted apart for some threads each, so that they do not share a line.
  struct alignas(64) Calls {
    std::atomic<std::int64_t> inside{0};
  };
  static std::size_t place_of_thread();

  Mount(const ClientConfig& config, std::uint64_t generation)
      : config_(config), session_(session_of(config)), generation_(generation) {}
  static std::string session_of(const ClientConfig& config);
  absl::Status configure();
  absl::Status start(Session session);

  const ClientConfig config_;
  const std::string session_;  // empty: none
  const std::uint64_t generation_;
  ceph_mount_info* info_ = nullptr;
  bool mounted_ = false;
  std::atomic<bool> given_up_{false};  // nobody waits for its start any more
  std::atomic<bool> dead_{false};
  std::array<Calls, 16> calls_;
};

// A mount that is not ended while this lives.
class Use {
 public:
  Use() = default;
  ~Use() { drop(); }
  Use(Use&& other) noexcept
      : mount_(std::exchange(other.mount_, nullptr)), inside_(other.inside_) {}
  Use& operator=(Use&& other) noexcept {
    if (this != &other) {
      drop();
      mount_ = std::exchange(other.mount_, nullptr);
      inside_ = other.inside_;
    }
    return *this;
  }
  // None, unless `current` is a mount. Whoever ends it takes it out of `current` before.
  static Use of(const std::atomic<Mount*>& current) {
    for (;;) {
      Mount* const mount = current.load();
      if (mount == nullptr) return {};
      Use use(mount);
      if (current.load() == mount) return use;
    }
  }
  // For the one who has made it, and shows it to nobody.
  explicit Use(Mount* mount)
      : mount_(mount), inside_(&mount->calls_[Mount::place_of_thread()].inside) {
    inside_->fetch_add(1);
  }

  explicit operator bool() const { return mount_ != nullptr; }
  Mount* mount() const { return mount_; }
  ceph_mount_info* info() const { return mount_->info(); }
  bool is_dead() const { return mount_->is_dead(); }
  void drop() {
    if (std::exchange(mount_, nullptr) != nullptr) inside_->fetch_sub(1);
  }

 private:
  Mount* mount_ = nullptr;
  std::atomic<std::int64_t>* inside_ = nullptr;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_MOUNT_H_
