// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/tenant_files.h"

#include <dirent.h>
#include <fcntl.h>

#include <array>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "services/ceph/tenant_errors.h"
#include "services/ceph/work_directory.h"

namespace libservices::ceph_internal {
namespace {

constexpr std::chrono::seconds kMostForEviction{20};

const UserPerm* root() { return permissions_of(0, 0, {}); }

std::vector<std::string> parts(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view name = path.substr(0, path.find('/'));
    if (!name.empty()) names.emplace_back(name);
    path.remove_prefix(name.size());
  }
  return names;
}

// Of an answer whose number says nothing.
Result<void> done(std::int64_t answer) {
  if (answer < 0) return error_of(answer);
  return {};
}

}  // namespace

absl::StatusOr<std::unique_ptr<TenantFiles>> TenantFiles::mount(ClientConfig config,
                                                                const std::string& filesystem) {
  config.filesystem = filesystem;
  auto joined = Client::join(config);
  if (!joined.ok()) {
    return tenant_failure(joined.status().code(), "filesystem " + filesystem,
                          reason_of(joined.status()),
                          "an MDS must be active, and the key reach the root: mds 'allow *'");
  }
  Use use = (*joined)->try_use();
  return std::unique_ptr<TenantFiles>(new TenantFiles(*std::move(joined), std::move(use)));
}

TenantFiles::~TenantFiles() {
  if (waits_) return;
  use_.drop();
  (void)client_->leave();
}

Result<ObjectPtr> TenantFiles::top() const {
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_CHECK_OK(done(ceph_ll_walk(mounted(), "/", &inode, &seen, kWanted, 0, root())));
  return std::make_shared<const Object>(client_, use_, inode, seen);
}

Result<ObjectPtr> TenantFiles::directory_in(const ObjectPtr& parent,
                                            const std::string& name) const {
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_TRY(Inode* const above, parent->in(use_));
  LIBSERVICES_CHECK_OK(done(ceph_ll_lookup(mounted(), above, name.c_str(), &inode, &seen, kWanted,
                                           AT_SYMLINK_NOFOLLOW, root())));
  ObjectPtr directory = std::make_shared<const Object>(client_, use_, inode, seen);
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  return directory;
}

Result<ObjectPtr> TenantFiles::find(std::string_view path) const {
  LIBSERVICES_TRY(ObjectPtr directory, top());
  for (const std::string& name : parts(path)) {
    LIBSERVICES_TRY(directory, directory_in(directory, name));
  }
  return directory;
}

Result<TenantFiles::Made> TenantFiles::make(std::string_view path) const {
  Made made;
  LIBSERVICES_TRY(made.directory, top());
  for (const std::string& name : parts(path)) {
    Inode* inode = nullptr;
    Statx seen{};
    LIBSERVICES_TRY(Inode* const above, made.directory->in(use_));
    const int answer =
        ceph_ll_mkdir(mounted(), above, name.c_str(), 0755, &inode, &seen, kWanted, 0, root());
    if (answer < 0 && answer != -EEXIST) return error_of(answer);
    made.is_new = answer >= 0;
    if (made.is_new) {
      made.directory = std::make_shared<const Object>(client_, use_, inode, seen);
    } else {
      LIBSERVICES_TRY(made.directory, directory_in(made.directory, name));
    }
  }
  return made;
}

Result<void> TenantFiles::remove(const std::string& path) const {
  const std::size_t slash = path.rfind('/');
  LIBSERVICES_TRY(const ObjectPtr parent, find(std::string_view(path).substr(0, slash)));
  LIBSERVICES_TRY(Inode* const above, parent->in(use_));
  return remove_all(client_, use_, above, path.c_str() + slash + 1);
}

Result<bool> TenantFiles::is_empty(const ObjectPtr& directory) const {
  ceph_dir_result* listing = nullptr;
  LIBSERVICES_TRY(Inode* const inode, directory->in(use_));
  LIBSERVICES_CHECK_OK(done(ceph_ll_opendir(mounted(), inode, &listing, root())));
  dirent entry{};
  int answer = 0;
  bool empty = true;
  while (empty && (answer = ceph_readdir_r(mounted(), listing, &entry)) > 0) {
    const std::string_view name = entry.d_name;
    empty = name == "." || name == "..";
  }
  (void)ceph_ll_releasedir(mounted(), listing);
  if (answer < 0) return error_of(answer);
  return empty;
}

Result<std::string> TenantFiles::text(const ObjectPtr& directory, const char* name) const {
  LIBSERVICES_TRY(Inode* const inode, directory->in(use_));
  std::array<char, 512> value{};
  const int size = ceph_ll_getxattr(mounted(), inode, name, value.data(), value.size(), root());
  if (size == -ENODATA) return std::string();
  if (size < 0) return error_of(size);
  return std::string(value.data(), static_cast<std::size_t>(size));
}

Result<std::uint64_t> TenantFiles::number(const ObjectPtr& directory, const char* name) const {
  LIBSERVICES_TRY(const std::string value, text(directory, name));
  std::uint64_t number = 0;
  (void)std::from_chars(value.data(), value.data() + value.size(), number);
  return number;
}

Result<void> TenantFiles::set(const ObjectPtr& directory, const char* name,
                              const std::string& value) const {
  LIBSERVICES_TRY(Inode* const inode, directory->in(use_));
  return done(ceph_ll_setxattr(mounted(), inode, name, value.data(), value.size(), 0, root()));
}

Result<void> TenantFiles::unset(const ObjectPtr& directory, const char* name) const {
  LIBSERVICES_TRY(Inode* const inode, directory->in(use_));
  return done(ceph_ll_removexattr(mounted(), inode, name, root()));
}

Result<void> TenantFiles::dress(const ObjectPtr& directory, const NewCephTenant& wanted) const {
  Statx fresh{};
  int mask = 0;
  if (wanted.uid) mask |= CEPH_SETATTR_UID;
  if (wanted.gid) mask |= CEPH_SETATTR_GID;
  if (wanted.mode) mask |= CEPH_SETATTR_MODE;
  fresh.stx_uid = wanted.uid.value_or(0);
  fresh.stx_gid = wanted.gid.value_or(0);
  fresh.stx_mode = static_cast<std::uint16_t>(wanted.mode.value_or(0));
  LIBSERVICES_TRY(Inode* const inode, directory->in(use_));
  if (mask != 0) {
    LIBSERVICES_CHECK_OK(done(ceph_ll_setattr(mounted(), inode, &fresh, mask, root())));
  }
  if (!wanted.quota_bytes) return {};
  return set(directory, kQuota, std::to_string(*wanted.quota_bytes));
}

Result<void> TenantFiles::sync() const { return done(ceph_sync_fs(mounted())); }

Result<void> TenantFiles::evict(const std::string& mds, const std::string& client) {
  struct Asked {
    std::mutex mutex;  // guards status
    std::condition_variable answered;
    std::optional<int> status;
  };
  const auto asked = std::make_shared<Asked>();
  const std::string command =
      nlohmann::json{{"prefix", "session evict"}, {"filters", {"auth_name=" + client}}}.dump();
  // An MDS that does not answer is waited for without end.
  std::thread([asked, command, mds, kept = client_, mount = mounted()] {
    const char* words[] = {command.c_str()};
    char* answer = nullptr;
    char* said = nullptr;
    std::size_t answer_size = 0;
    std::size_t said_size = 0;
    const int status = ceph_mds_command(mount, mds.c_str(), words, 1, nullptr, 0, &answer,
                                        &answer_size, &said, &said_size);
    ceph_buffer_free(answer);
    ceph_buffer_free(said);
    const std::lock_guard lock(asked->mutex);
    asked->status = status;
    asked->answered.notify_one();
  }).detach();
  std::unique_lock lock(asked->mutex);
  if (!asked->answered.wait_for(lock, kMostForEviction,
                                [&] { return asked->status.has_value(); })) {
    waits_ = true;
    return Errno{ETIMEDOUT};
  }
  return done(*asked->status);
}

}  // namespace libservices::ceph_internal
