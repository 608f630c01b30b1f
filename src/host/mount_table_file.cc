// SPDX-License-Identifier: Apache-2.0
#include "src/host/mount_table_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "src/host/descriptor.h"
#include "src/host/error_status.h"

namespace libservices::host {
namespace {

absl::Status system_error(std::string_view what, const std::string& path, std::string_view mend) {
  const int error = errno;
  return error_status(
      error, fmt::format("{}: cannot {}: {} ({})", path, what, std::strerror(error), mend));
}

}  // namespace

absl::StatusOr<std::string> normalised_mount_path(std::string_view path) {
  const auto refuse = [&](std::string_view why, std::string_view mend) {
    return absl::InvalidArgumentError(fmt::format("mount path '{}': {} ({})", path, why, mend));
  };
  if (!path.starts_with('/')) return refuse("it is not absolute", "write it from '/'");
  std::string out;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view name = path.substr(at, end - at);
    if (name == "." || name == "..") {
      return refuse(fmt::format("it has the component '{}'", name), "write it without");
    }
    if (name.size() > 255) return refuse("a name in it is longer than 255 bytes", "shorten it");
    if (!name.empty()) {
      out += '/';
      out += name;
    }
    at = end + 1;
  }
  if (out.empty()) {
    return refuse("the root directory cannot be a mount", "choose a directory below it");
  }
  if (out.size() > protocol::kMostMountPath) {
    return refuse(fmt::format("it is longer than {} bytes", protocol::kMostMountPath),
                  "shorten it");
  }
  if (out.find('\0') != std::string::npos) return refuse("a NUL byte stands in it", "remove it");
  return out;
}

absl::Status MountTableFile::create(const Facts& facts) {
  const std::string path = directory_ + "/mounts";
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());
  Descriptor file(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.ok()) return system_error("create it", path, "check who may write there");
  constexpr std::size_t kBytes = sizeof(protocol::MountTable);
  // Allocated now: a full disk or memory limit is an error here, not a SIGBUS later.
  if (const int error = ::posix_fallocate(file.get(), 0, kBytes); error != 0) {
    errno = error;
    const absl::Status failed =
        system_error("allocate it", path, "make room on that file system, or raise its limit");
    ::unlink(fresh.c_str());
    return failed;
  }
  void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) {
    const absl::Status failed = system_error("map it", path, "raise the memory limit");
    ::unlink(fresh.c_str());
    return failed;
  }
  table_ = new (memory) protocol::MountTable;
  table_->service = static_cast<std::uint64_t>(::getpid());
  table_->number = facts.number;
  table_->placeholder_device = facts.placeholder_device;
  table_->restart_wait_ms.store(static_cast<std::uint32_t>(facts.restart_wait.count()));
  table_->copies = facts.copies;
  if (::rename(fresh.c_str(), path.c_str()) != 0) {
    const absl::Status failed = system_error("name it", path, "check who may write there");
    ::unlink(fresh.c_str());
    remove();
    return failed;
  }
  return absl::OkStatus();
}

void MountTableFile::remove() {
  if (table_ == nullptr) return;
  table_->restart_wait_ms.store(0);
  ::munmap(table_, sizeof(protocol::MountTable));
  table_ = nullptr;
  ::unlink((directory_ + "/mounts").c_str());
}

absl::Status MountTableFile::add(std::string_view path, std::uint32_t instance) {
  absl::StatusOr<std::string> normal = normalised_mount_path(path);
  if (!normal.ok()) return normal.status();
  const auto bytes = static_cast<std::uint32_t>(normal->size());
  std::uint64_t hash = protocol::kMountHashSeed;
  for (const char byte : *normal) hash = protocol::mount_hash_step(hash, byte);
  if (hash == 0) {
    return absl::InvalidArgumentError(
        fmt::format("mount path '{}': its hash is 0 (choose another)", *normal));
  }
  protocol::MountEntry* slot = nullptr;
  for (unsigned probe = 0; slot == nullptr; ++probe) {
    protocol::MountEntry& at = table_->slots[(hash + probe) & (protocol::kMountSlots - 1)];
    if (at.hash == 0) {
      slot = &at;
    } else if (std::string_view(at.path, at.path_bytes) == *normal) {
      return absl::AlreadyExistsError(
          fmt::format("mount path '{}': it is given twice (mount each path once)", *normal));
    }
  }
  if (table_->count == protocol::kMostMounts) {
    return absl::ResourceExhaustedError(
        fmt::format("mount path '{}': the pool has {} mounts, which is all it can have (use a "
                    "second pool)",
                    *normal, protocol::kMostMounts));
  }
  // Odd while it changes: acquire keeps the stores below from moving before it. Pairs with the
  // loads in find_mount.
  table_->sequence.fetch_add(1, std::memory_order_acq_rel);
  std::memcpy(slot->path, normal->data(), bytes);
  slot->path_bytes = bytes;
  slot->instance = instance;
  slot->hash = hash;
  ++table_->count;
  if (bytes > table_->longest) table_->longest = bytes;
  table_->sequence.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

}  // namespace libservices::host
