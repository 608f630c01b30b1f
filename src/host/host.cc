// SPDX-License-Identifier: Apache-2.0
#include "libservices/host.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>

#include "ipc/copy_table_file.h"
#include "src/host/ceph_sessions.h"
#include "src/host/dispatcher.h"
#include "src/host/endings.h"
#include "src/host/errands.h"
#include "src/host/error_status.h"
#include "src/host/fuse_mount.h"
#include "src/host/kept_files.h"
#include "src/host/kernel_objects.h"
#include "src/host/mount_table_file.h"
#include "src/host/placeholders.h"
#include "src/host/rcqb_transport.h"
#include "src/host/run_directory.h"
#include "src/host/sessions.h"
#include "src/host/status_server.h"
#include "src/host/stuck_calls.h"
#include "src/host/watches.h"

namespace libservices {
namespace {

using host::Descriptor;

// However little time there is to stop.
constexpr std::chrono::milliseconds kFewestForFilesystems{1000};

void complain(const std::string& message) {
  const std::string line = fmt::format("libservices: {}\n", message);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

// A message about one mount: which it is stands before what is wrong with it.
absl::Status about(const HostConfig::Mount& mount, const absl::Status& status) {
  return absl::Status(status.code(), fmt::format("mount {}={}: {}", mount.path, mount.spec,
                                                 std::string(status.message())));
}

std::uint64_t resident_bytes() {
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

// Everything of a started host. The members stop in the order opposite to their start.
class Host::Running {
 public:
  explicit Running(const HostConfig& config)
      : config_(config),
        kept_files_(config.run_directory),
        placeholders_(config.run_directory + "/placeholders"),
        objects_(config.run_directory + "/objects"),
        watches_(filesystems_, config.run_directory + "/watched",
                 {.all_users = config.clients == HostConfig::Clients::kAllUsers}),
        sessions_(filesystems_, placeholders_, kept_files_, objects_, watches_, errands_,
                  {.sessions = config.most_sessions,
                   .open_files = config.most_open_files,
                   .placeholders = config.most_open_files}),
        dispatcher_(filesystems_, placeholders_, kept_files_, objects_, watches_),
        transport_(dispatcher_, sessions_, stuck_calls_),
        mount_table_(config.run_directory) {}

  ~Running() { (void)stop(); }

  absl::Status start(const Catalog& catalog);
  absl::Status stop();
  std::string status() const;

 private:
  absl::Status build(const Catalog& catalog);
  void watch();
  void end_files(std::vector<host::ServiceOpenFilePtr> files);
  void tell_losses();
  void end_if_beyond_help();
  void finish_without_calls(bool for_good);
  void await(host::Endings& endings, std::chrono::milliseconds most);
  void remove_files();

  const HostConfig& config_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::string copy_table_;  // "tuned", or why not
  host::RunDirectory run_directory_;
  host::FilesystemTable filesystems_;
  std::size_t started_filesystems_ = 0;
  host::KeptFiles kept_files_;  // outlives every open file
  host::Placeholders placeholders_;
  host::KernelObjects objects_;
  host::Watches watches_;
  host::Errands errands_;
  host::Sessions sessions_;
  host::Dispatcher dispatcher_;
  host::StuckCalls stuck_calls_;
  host::RcqbTransport transport_;
  host::MountTableFile mount_table_;
  host::StatusServer status_server_;
  std::vector<std::unique_ptr<host::FuseMount>> fuse_mounts_;  // by mount; null: it has none
  Descriptor wake_;
  std::thread watcher_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ending_{false};  // by stop(), or by the watcher
};

absl::Status Host::Running::build(const Catalog& catalog) {
  const std::string service = host::service_name(config_.run_directory);
  for (const HostConfig::Mount& mount : config_.mounts) {
    absl::StatusOr<std::string> path = host::normalised_mount_path(mount.path);
    if (!path.ok()) return path.status();
    absl::StatusOr<Spec> spec = parse_spec(mount.spec);
    if (!spec.ok()) return about(mount, spec.status());
    // Where no other service will come, nobody takes over.
    if (config_.restart_wait.count() != 0) host::name_ceph_sessions(*spec, service);
    absl::StatusOr<std::unique_ptr<AnyFilesystem>> filesystem = catalog.build(*spec);
    if (!filesystem.ok()) return about(mount, filesystem.status());
    filesystems_.push_back({*std::move(path), mount.spec, *std::move(filesystem), nullptr});
  }
  return absl::OkStatus();
}

absl::Status Host::Running::start(const Catalog& catalog) {
  const bool all_users = config_.clients == HostConfig::Clients::kAllUsers;
  // What is wrong with the configuration is told before anything is touched.
  if (absl::Status built = build(catalog); !built.ok()) return built;
  ::umask(0);
  ::signal(SIGXFSZ, SIG_IGN);
  absl::StatusOr<host::RunDirectory> claimed =
      host::RunDirectory::claim(config_.run_directory, all_users ? 0711 : 0700);
  if (!claimed.ok()) return claimed.status();
  run_directory_ = *std::move(claimed);
  if (absl::Status begun = placeholders_.start(); !begun.ok()) return begun;
  if (absl::Status begun = kept_files_.start(); !begun.ok()) return begun;
  if (absl::Status begun = objects_.start(); !begun.ok()) return begun;
  if (absl::Status begun = watches_.start(); !begun.ok()) return begun;
  std::random_device random;
  const std::uint64_t number = (std::uint64_t{random()} << 32U) | random();
  // One that cannot be used makes copies slower, and status says why.
  const absl::StatusOr<ipc::CopyTable> tuned = ipc::load_copy_table(config_.copy_table);
  const ipc::CopyTable copies = tuned.ok() ? *tuned : ipc::default_copy_table();
  copy_table_ = tuned.ok() ? "tuned" : std::string(tuned.status().message());
  if (absl::Status made = mount_table_.create({.number = number,
                                               .placeholder_device = placeholders_.device(),
                                               .restart_wait = config_.restart_wait,
                                               .copies = copies});
      !made.ok()) {
    return made;
  }
  for (std::uint32_t i = 0; i < filesystems_.size(); ++i) {
    if (absl::Status added = mount_table_.add(filesystems_[i].path, i); !added.ok()) return added;
  }
  const host::KeptFiles::Mapped mapped = kept_files_.mapped();
  for (std::size_t i = 0; i < filesystems_.size(); ++i) {
    AnyFilesystem& filesystem = *filesystems_[i].filesystem;
    for (const std::uint64_t object : mapped.objects) filesystem.remember_mapped(object);
    if (mapped.others) filesystem.remember_mapped(std::nullopt);
    absl::Status begun = filesystem.start();
    if (!begun.ok()) return about(config_.mounts[i], begun);
    started_filesystems_ = i + 1;
    if (filesystems_[i].filesystem->keeps_partial_files()) {
      filesystems_[i].partial_files =
          std::make_unique<host::PartialCounts>(*filesystems_[i].filesystem);
    }
  }
  std::vector<std::chrono::nanoseconds> deadlines;
  for (const host::Instance& instance : filesystems_) {
    deadlines.push_back(instance.filesystem->deadline());
  }
  stuck_calls_.start(deadlines, [this] {
    const std::uint64_t one = 1;
    if (wake_.ok()) (void)!::write(wake_.get(), &one, sizeof one);
  });
  for (std::size_t i = 0; i < filesystems_.size(); ++i) {
    HostConfig::Mount mount = config_.mounts[i];
    mount.path = filesystems_[i].path;
    fuse_mounts_.push_back(
        mount.fuse
            ? std::make_unique<host::FuseMount>(
                  mount, *filesystems_[i].filesystem,
                  fuse::Calls::Options{
                      .deadline = filesystems_[i].filesystem->deadline(),
                      .given_up = [this, i](const void* call) { stuck_calls_.begin(i, call); },
                      .came_back = [this](const void* call) { stuck_calls_.end(call); }})
            : nullptr);
    if (fuse_mounts_.back() != nullptr) filesystems_[i].mount = &fuse_mounts_.back()->session();
  }
  watches_.adopt();
  if (absl::Status begun = sessions_.start(number); !begun.ok()) return begun;
  const mode_t socket_mode = all_users ? 0666 : 0600;
  if (absl::Status begun =
          status_server_.start(host::status_path(config_.run_directory), socket_mode);
      !begun.ok()) {
    return begun;
  }
  wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.ok()) {
    return host::error_status(
        errno, fmt::format("eventfd: {} (raise the limit of open files)", std::strerror(errno)));
  }
  absl::Status begun =
      transport_.start({.run_directory = config_.run_directory,
                        .socket_mode = socket_mode,
                        .most_workers = config_.most_workers,
                        .copies = copies,
                        .bind_threads = config_.threads == HostConfig::Threads::kBound,
                        .most_sessions = config_.most_sessions});
  if (!begun.ok()) return begun;
  watcher_ = std::thread([this] { watch(); });
  for (std::size_t i = 0; i < fuse_mounts_.size(); ++i) {
    if (fuse_mounts_[i] == nullptr) continue;
    if (absl::Status mounted = fuse_mounts_[i]->start(); !mounted.ok()) {
      return about(config_.mounts[i], mounted);
    }
  }
  return absl::OkStatus();
}

// The last descriptors of files, deaths of processes, and questions for the state.
void Host::Running::watch() {
  // Its work comes when a process ends, and can wait until that one has: it shall not take the
  // processor from it, as a thread that wakes otherwise does.
  sched_param priority{};
  int policy = 0;
  if (::pthread_getschedparam(::pthread_self(), &policy, &priority) == 0 && policy == SCHED_OTHER) {
    ::pthread_setschedparam(::pthread_self(), SCHED_BATCH, &priority);
  }
  constexpr std::chrono::milliseconds kBetweenLooks(500);
  const bool looks = config_.most_stuck_calls != 0 &&
                     std::any_of(filesystems_.begin(), filesystems_.end(), [](const auto& each) {
                       return each.filesystem->deadline().count() != 0;
                     });
  // The kernel does not ask for what it has.
  const bool may_lose = std::any_of(filesystems_.begin(), filesystems_.end(), [](const auto& each) {
    return each.mount != nullptr && each.filesystem->may_lose_writes();
  });
  pollfd events[] = {{placeholders_.news(), POLLIN, 0},
                     {sessions_.news(), POLLIN, 0},
                     {status_server_.news(), POLLIN, 0},
                     {wake_.get(), POLLIN, 0}};
  while (!stopping_.load(std::memory_order_relaxed)) {
    auto wait = watches_.wait();
    // Looked at when there is something: a service that rests is not woken.
    if (((looks && stuck_calls_.all() != 0) || may_lose) &&
        (wait.count() < 0 || wait > kBetweenLooks)) {
      wait = kBetweenLooks;
    }
    const int ready = ::poll(events, std::size(events), static_cast<int>(wait.count()));
    end_if_beyond_help();
    if (may_lose) tell_losses();
    watches_.sweep_if_due();
    if (ready <= 0) continue;
    if (events[0].revents != 0) {
      end_files(placeholders_.collect());
    }
    if (events[1].revents != 0 && sessions_.collect_dead()) watches_.processes_ended();
    if (events[2].revents != 0) status_server_.answer(status());
    if (events[3].revents != 0) {
      std::uint64_t times = 0;
      (void)!::read(wake_.get(), &times, sizeof times);
    }
    placeholders_.refill();
  }
}

// Nobody has a descriptor of them. Those of one instance wait for each other, at most.
void Host::Running::end_files(std::vector<host::ServiceOpenFilePtr> files) {
  while (!files.empty()) {
    const std::uint32_t instance = files.back()->instance();
    const auto first = std::partition(
        files.begin(), files.end(), [&](const auto& file) { return file->instance() != instance; });
    std::vector<host::ServiceOpenFilePtr> its(std::make_move_iterator(first),
                                              std::make_move_iterator(files.end()));
    files.erase(first, files.end());
    errands_.run([its = std::move(its)]() mutable {
      for (host::ServiceOpenFilePtr& file : its) {
        host::end_everywhere(file);
        file.reset();
      }
    });
  }
}

// The kernel may wait for a page that is being read.
void Host::Running::tell_losses() {
  for (const auto& mount : fuse_mounts_) {
    if (mount == nullptr || !mount->has_lost()) continue;
    errands_.run([its = mount.get()] { its->session().forget_answers(); });
  }
}

// Only a new process helps some filesystem, and it is at hand.
void Host::Running::end_if_beyond_help() {
  constexpr unsigned kMostTimes = 10;
  constexpr std::chrono::seconds kOthers(1);
  if (config_.most_stuck_calls == 0) return;
  const auto stuck = stuck_calls_.beyond_help(config_.most_stuck_calls, kMostTimes);
  if (!stuck || ending_.exchange(true)) return;
  complain(fmt::format("mount {}: {} calls do not end (the service ends, to be started anew)",
                       filesystems_[*stuck].path, stuck_calls_.count(*stuck)));
  for (const auto& mount : fuse_mounts_) {
    if (mount != nullptr) (void)mount->stop(kOthers);
  }
  (void)transport_.stop(kOthers);
  finish_without_calls(false);
}

// Ends the process. The filesystems get time to write what they have.
void Host::Running::finish_without_calls(bool for_good) {
  host::Endings endings;
  for (std::size_t i = 0; i < started_filesystems_; ++i) {
    endings.begin(filesystems_[i].path, [this, i] { (void)filesystems_[i].filesystem->stop(); });
  }
  if (for_good) {
    endings.begin(config_.run_directory, [this] { remove_files(); });
  }
  (void)endings.await(std::max(config_.stop_grace, kFewestForFilesystems));
  if (for_good) {
    const std::string left = endings.left();
    complain(fmt::format("calls do not end{}{} (the service ends without them)",
                         left.empty() ? "" : ", and these could not be stopped: ", left));
  }
  ::_exit(HostConfig::kEndedByStuckCalls);
}

// Ends the process if these do not end in time.
void Host::Running::await(host::Endings& endings, std::chrono::milliseconds most) {
  if (endings.await(most)) return;
  complain(fmt::format(
      "{}: the storage does not answer, and what was not synchronised may be lost (the service "
      "ends without it)",
      endings.left()));
  remove_files();
  ::_exit(HostConfig::kEndedByStuckCalls);
}

void Host::Running::remove_files() {
  mount_table_.remove();
  kept_files_.remove();
  objects_.remove();
  watches_.remove();
  run_directory_.remove();
}

absl::Status Host::Running::stop() {
  while (ending_.exchange(true) && watcher_.joinable()) ::pause();  // the watcher ends the process
  absl::Status result;
  const bool waits_for_ever = config_.stop_grace.count() == 0;
  const auto end = std::chrono::steady_clock::now() + config_.stop_grace;
  const auto grace = [&] {
    if (waits_for_ever) return ipc::Patience::kForEver;
    const auto left = end - std::chrono::steady_clock::now();
    return std::max(std::chrono::ceil<std::chrono::milliseconds>(left),
                    std::chrono::milliseconds(0));
  };
  bool ended = true;
  for (const auto& mount : fuse_mounts_) {
    if (mount != nullptr) ended = mount->stop(grace()) && ended;
  }
  ended = transport_.stop(grace()) && ended;
  if (!ended) finish_without_calls(true);
  if (watcher_.joinable()) {
    stopping_.store(true, std::memory_order_relaxed);
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    watcher_.join();
  }
  if (!errands_.stop(grace())) finish_without_calls(true);
  // As long again: what they have to write may be much.
  const auto for_filesystems = waits_for_ever ? ipc::Patience::kForEver
                                              : std::max(config_.stop_grace, kFewestForFilesystems);
  host::Endings of_files;
  of_files.begin("open files", [this] {
    for (const host::Sessions::Entry& entry : sessions_.list()) sessions_.close(entry.session);
    placeholders_.release_all();
  });
  await(of_files, for_filesystems);
  fuse_mounts_.clear();
  watches_.stop();
  std::vector<absl::Status> stopped(std::exchange(started_filesystems_, 0));
  host::Endings of_filesystems;
  for (std::size_t i = 0; i < stopped.size(); ++i) {
    of_filesystems.begin(filesystems_[i].path, [this, i, &stopped] {
      filesystems_[i].partial_files.reset();
      stopped[i] = filesystems_[i].filesystem->stop();
    });
  }
  await(of_filesystems, for_filesystems);
  for (std::size_t i = 0; i < stopped.size(); ++i) {
    if (!stopped[i].ok() && result.ok()) result = about(config_.mounts[i], stopped[i]);
  }
  filesystems_.clear();
  remove_files();
  return result;
}

std::string Host::Running::status() const {
  using nlohmann::json;
  using std::chrono::duration_cast;
  using std::chrono::seconds;
  const host::Dispatcher::Counts counts = dispatcher_.counts();
  const host::RcqbTransport::Counts transport = transport_.counts();

  json mounts = json::array();
  std::uint64_t open_files = 0;
  std::uint64_t locks = 0;
  for (const host::Instance& instance : filesystems_) {
    const FilesystemCounters counters = instance.filesystem->counters();
    open_files += counters.open_files;
    locks += counters.locks;
    mounts.push_back({{"path", instance.path},
                      {"spec", instance.spec},
                      {"open_files", counters.open_files},
                      {"known_objects", counters.known_objects},
                      {"cached_names", counters.cached_names},
                      {"locks", counters.locks}});
    // Looks at the whole upper: counted beside the service, null until it is done.
    if (instance.partial_files != nullptr) {
      const auto counted = instance.partial_files->latest();
      mounts.back()["partial_files"] = counted ? json(*counted) : json(nullptr);
    }
    const std::size_t number = mounts.size() - 1;
    if (instance.filesystem->deadline().count() != 0) {
      mounts.back()["deadline_seconds"] =
          std::chrono::duration<double>(instance.filesystem->deadline()).count();
      mounts.back()["stuck_calls"] = stuck_calls_.count(number);
    }
    if (number < fuse_mounts_.size() && fuse_mounts_[number] != nullptr) {
      mounts.back()["fuse"] = fuse_mounts_[number]->status();
    }
  }
  json sessions = json::array();
  for (const host::Sessions::Entry& entry : sessions_.list()) {
    sessions.push_back({{"pid", entry.pid},
                        {"uid", entry.session->caller->uid},
                        {"gid", entry.session->caller->gid},
                        {"handles", entry.session->handles->size()},
                        {"requests", entry.session->requests.load(std::memory_order_relaxed)}});
  }
  json requests = json::object();
  std::uint64_t all_requests = 0;
  for (std::size_t i = 0; i < host::kOperations; ++i) {
    all_requests += counts.requests[i];
    if (counts.requests[i] != 0) {
      requests[std::string(host::kProtocolOperationNames[i])] = counts.requests[i];
    }
  }
  const json status = {
      {"pool", config_.pool},
      {"pid", ::getpid()},
      {"run_directory", config_.run_directory},
      {"uptime_seconds",
       duration_cast<seconds>(std::chrono::steady_clock::now() - started_).count()},
      {"mounts", std::move(mounts)},
      {"sessions", std::move(sessions)},
      {"open_files", open_files},
      {"locks", locks},
      {"watched_objects", watches_.count()},
      {"placeholders", {{"given", placeholders_.given()}, {"bound", placeholders_.bound()}}},
      {"requests", all_requests},
      {"requests_by_operation", std::move(requests)},
      {"errors", counts.errors},
      {"refused", {{"malformed", counts.malformed}, {"by_transport", transport.refused}}},
      {"sessions_opened", transport.opened},
      {"copy_table", copy_table_},
      {"queues", transport.queues},
      {"workers", transport.workers},
      {"memory_bytes", resident_bytes()}};
  // Paths and specs are bytes; what is no UTF-8 in them is shown as such.
  return status.dump(-1, ' ', false, json::error_handler_t::replace);
}

Host::Host(HostConfig config, const Catalog& catalog)
    : config_(std::move(config)), catalog_(catalog) {}

Host::~Host() { (void)stop(); }

absl::Status Host::start() {
  auto running = std::make_unique<Running>(config_);
  if (absl::Status begun = running->start(catalog_); !begun.ok()) return begun;
  running_ = std::move(running);
  return absl::OkStatus();
}

absl::Status Host::stop() {
  if (running_ == nullptr) return absl::OkStatus();
  const absl::Status result = running_->stop();
  running_.reset();
  return result;
}

std::string Host::status() const { return running_ == nullptr ? "{}" : running_->status(); }

}  // namespace libservices
