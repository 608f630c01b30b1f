// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace libservices::ceph_internal {
namespace {

constexpr std::chrono::milliseconds kBetweenQuestions{50};

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

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t number = 0xcbf29ce484222325;
  for (const char c : text) number = (number ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return number;
}

std::size_t Mount::place_of_thread() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t place =
      threads.fetch_add(1, std::memory_order_relaxed) % std::tuple_size_v<decltype(calls_)>;
  return place;
}

bool Mount::has_calls() const {
  std::int64_t inside = 0;
  for (const Calls& some : calls_) inside += some.inside.load();
  return inside != 0;
}

absl::Status Mount::failure(std::string_view what, int answer, std::string_view mend) const {
  return absl::Status(absl::ErrnoToStatusCode(-answer),
                      fmt::format("ceph: client.{}: {}: {} ({})", config_.client, what,
                                  std::strerror(-answer), mend));
}

absl::Status Mount::configure() {
  std::string conf = config_.conf_file;
  if (conf.empty() && !config_.cluster.empty()) {
    conf = fmt::format("/etc/ceph/{}.conf", config_.cluster);
  }
  if (const int answer = ceph_conf_read_file(info_, conf.empty() ? nullptr : conf.c_str());
      answer < 0) {
    return failure(conf.empty() ? "the cluster's configuration" : conf, answer,
                   "name the cluster's ceph.conf with conf=FILE or in CEPH_CONF");
  }
  struct Setting {
    std::string key;
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
      {"client_oc_max_dirty_age",
       std::to_string(std::chrono::duration<double>(config_.flush_after).count())},
      {"rados_osd_op_timeout", whole_seconds(config_.data_timeout)},
      // Several clients of one process would fight for the socket, and write to its standard error.
      {"admin_socket", ""},
      {"log_to_stderr", "false"},
      {"err_to_stderr", "false"},
      {"log_file", ""},
  };
  // Lines that nobody will see are not kept in memory either: each wakes libceph's thread for them,
  // which doubles the time of a call that is answered from the cache.
  for (const char* const part : {"client", "filer", "finisher", "ms", "objectcacher", "objecter",
                                 "striper", "throttle", "timer"}) {
    settings.push_back({fmt::format("debug_{}", part), "0/0"});
  }
  if (!config_.remembers_names) settings.push_back({"client_cache_size", "0"});
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
    if (const int answer = ceph_conf_set(info_, setting.key.c_str(), setting.value.c_str());
        answer < 0) {
      return failure(fmt::format("{} = {}", setting.key, setting.value), answer,
                     "this libcephfs2 does not know it");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Mount>> Mount::make(const ClientConfig& config,
                                                   std::uint64_t generation) {
  std::shared_ptr<Mount> mount(new Mount(config, generation));
  if (const int answer = ceph_create(&mount->info_, config.client.c_str()); answer < 0) {
    mount->info_ = nullptr;
    return mount->failure("making a client", answer, "is there memory left?");
  }
  if (absl::Status configured = mount->configure(); !configured.ok()) return configured;
  return mount;
}

absl::Status Mount::start(const std::shared_ptr<Mount>& mount, Session session,
                          const std::function<bool()>& goes_on) {
  struct Attempt {
    std::mutex mutex;  // guards what follows
    std::condition_variable over;
    std::optional<absl::Status> status;
  };
  const auto attempt = std::make_shared<Attempt>();
  try {
    std::thread([attempt, mount = mount, session]() mutable {
      absl::Status status = mount->start(session);
      const std::lock_guard lock(attempt->mutex);
      attempt->status = std::move(status);
      mount.reset();  // its end is the caller's, if that still waits
      attempt->over.notify_all();
    }).detach();
  } catch (const std::system_error&) {
    return mount->failure("mounting", -EAGAIN, "raise the limit of threads");
  }
  std::unique_lock lock(attempt->mutex);
  while (!attempt->over.wait_for(lock, kBetweenQuestions,
                                 [&] { return attempt->status.has_value(); })) {
    if (!goes_on()) {
      mount->given_up_.store(true);
      return mount->failure(fmt::format("mounting {}", mount->config_.root), -ETIMEDOUT,
                            "no MDS answers: is one active?");
    }
  }
  return *attempt->status;
}

absl::Status Mount::start(Session session) {
  constexpr std::string_view kNoKey =
      "is there a key for this client in its keyring, or in the file that key=FILE names?";
  if (const int answer = ceph_init(info_); answer < 0) {
    return failure("connecting", answer,
                   answer == -ETIMEDOUT ? "no monitor answers: is the cluster up?" : kNoKey);
  }
  if (!session_.empty()) {
    if (session == Session::kTakeOver) {
      // What an earlier process of that session held is given back at once, not after a minute.
      const int answer = ceph_start_reclaim(info_, session_.c_str(), CEPH_RECLAIM_RESET);
      if (answer < 0 && answer != -ENOENT) {
        return failure("taking over the session", answer,
                       answer == -ETIMEDOUT ? "no MDS answers: is one active?"
                                            : "leave out session=, and wait a minute");
      }
      ceph_finish_reclaim(info_);
    }
    // Else it would be in the way of the next one of that session.
    if (given_up_.load()) return absl::CancelledError();
    ceph_set_uuid(info_, session_.c_str());
  }
  if (const int answer = ceph_mount(info_, config_.root.c_str()); answer < 0) {
    return failure(fmt::format("mounting {}", config_.root), answer,
                   answer == -ETIMEDOUT ? "no MDS answers: is one active?"
                   : answer == -EPERM && session == Session::kRespect && !session_.empty()
                       ? "has another service its session now?"
                   : answer == -EPERM
                       ? "may the key reach it? name the directory that it may with root="
                   : answer == -ENOENT ? "make that directory, or correct root= or filesystem="
                                       : kNoKey);
  }
  mounted_ = true;
  return absl::OkStatus();
}

// A service may have several clients, which differ in something of this.
std::string Mount::session_of(const ClientConfig& config) {
  if (!config.session.empty() || config.service.empty()) return config.session;
  return fmt::format(
      "{}{} {:016x}", config.service, config.remembers_names ? "" : "/renames",
      hash_of(fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{} {} {} {}", config.conf_file, config.cluster,
                          config.client, config.key_file, config.filesystem, config.root,
                          config.cache_bytes, config.dirty_bytes, config.mount_timeout.count(),
                          config.data_timeout.count())));
}

absl::Status Mount::end() {
  if (!std::exchange(mounted_, false)) return absl::OkStatus();
  // Within some microseconds of the MDS's last answer libcephfs still holds the object of it, which
  // it lets go each second alone: half of all unmounts would wait for that. After 2 ms none did.
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const int answer = ceph_unmount(info_);
  // Of a dead one there was nothing left to save.
  if (answer >= 0 || is_dead()) return absl::OkStatus();
  return failure("unmounting", answer, "what was not synchronised may be lost");
}

Mount::~Mount() {
  if (info_ == nullptr) return;
  // Somebody may be inside still: it is left as it is.
  if (has_calls()) return;
  (void)end();
  (void)ceph_release(info_);
}

}  // namespace libservices::ceph_internal
