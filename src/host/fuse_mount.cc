// SPDX-License-Identifier: Apache-2.0
#include "src/host/fuse_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "src/fuse/mount.h"
#include "src/host/error_status.h"

namespace libservices::host {
namespace {

constexpr std::chrono::seconds kMostToAnswer(10);

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace

FuseMount::FuseMount(const HostConfig::Mount& mount, AnyFilesystem& filesystem,
                     fuse::Calls::Options calls)
    : filesystem_(filesystem),
      losses_(filesystem.losses()),
      path_(mount.path),
      source_(mount.fuse->source.empty() ? mount.spec : mount.fuse->source),
      options_(*mount.fuse),
      calls_(std::move(calls)),
      session_(filesystem, {.writeback = mount.fuse->writeback,
                            .passthrough = mount.fuse->passthrough,
                            .kernel_decides = mount.fuse->kernel_decides}) {}

absl::Status FuseMount::make_path() {
  if (exists(path_) || fuse::is_stale(path_)) return absl::OkStatus();
  for (std::size_t end = path_.find('/', 1);; end = path_.find('/', end + 1)) {
    const std::string part = path_.substr(0, end);
    if (!exists(part)) {
      if (::mkdir(part.c_str(), 0755) != 0) {
        return error_status(errno, fmt::format("{}: cannot be made to mount on: {} (make {})", part,
                                               std::strerror(errno), path_));
      }
      if (made_.empty()) made_ = part;
    }
    if (end == std::string::npos) return absl::OkStatus();
  }
}

// From the mount point up to what was made first, as far as nobody has put something there.
void FuseMount::remove_path() {
  if (made_.empty()) return;
  for (std::string at = path_; at.size() >= made_.size(); at.resize(at.rfind('/'))) {
    if (::rmdir(at.c_str()) != 0) break;
  }
  made_.clear();
}

absl::Status FuseMount::start() {
  if (absl::Status made = make_path(); !made.ok()) return made;
  absl::StatusOr<Descriptor> descriptor = fuse::mount({.path = path_,
                                                       .source = source_,
                                                       .allow_other = options_.allow_other,
                                                       .read_only = options_.read_only,
                                                       .options = options_.mount_options});
  if (!descriptor.ok()) {
    remove_path();
    return descriptor.status();
  }
  device_ = std::make_unique<fuse::Device>(session_, *std::move(descriptor),
                                           fuse::Device::Options{.rings = options_.io_uring,
                                                                 .calls = calls_,
                                                                 .on_end = options_.on_end});
  number_ = fuse::device_at(path_);
  if (device_->start() && session_.wait_until_negotiated(kMostToAnswer)) return absl::OkStatus();
  (void)stop();
  return absl::UnavailableError(
      fmt::format("{}: the kernel does not begin to speak with its mount (see its log)", path_));
}

bool FuseMount::stop(std::chrono::milliseconds most) {
  if (device_ == nullptr || ended_) return true;
  if (device_->is_mounted() && fuse::device_at(path_) == number_) fuse::unmount_own(path_, most);
  const bool ended = device_->stop(most);
  if (!ended) {
    remove_path();
    return false;
  }
  session_.end();
  ended_ = true;  // the device stays: others may be about to tell it of a change
  remove_path();
  return true;
}

nlohmann::json FuseMount::status() const {
  using nlohmann::json;
  const fuse::Session::Counts counts = session_.counts();
  json requests = json::object();
  for (std::uint32_t opcode = 0; opcode < fuse::kForms; ++opcode) {
    if (counts.requests[opcode] != 0) {
      requests[std::string(fuse::form_of(opcode)->name)] = counts.requests[opcode];
    }
  }
  return {{"mounted", device_ != nullptr && device_->is_mounted()},
          {"protocol", fmt::format("7.{}", counts.minor)},
          {"transport", device_ != nullptr && device_->uses_rings() ? "io_uring" : "device"},
          {"service_ends_with_it", options_.on_end != nullptr},
          {"writeback", options_.writeback},
          {"passthrough", counts.passthrough},
          {"files_passing_through", counts.passing},
          {"nodes", counts.nodes},
          {"open_files", counts.handles},
          {"requests_by_operation", std::move(requests)},
          {"errors", counts.errors},
          {"notices", counts.notices}};
}

}  // namespace libservices::host
