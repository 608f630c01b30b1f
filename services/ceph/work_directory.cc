// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/work_directory.h"

#include <dirent.h>
#include <fcntl.h>

#include <string>
#include <vector>

#include "libservices/access_list.h"

namespace libservices::ceph_internal {
namespace {

constexpr int kDeepest = 4096;  // directories in one another

const UserPerm* own() { return permissions_of(0, 0, {}); }

Result<ObjectPtr> find(const std::shared_ptr<Client>& client, Inode* directory, const char* name) {
  Inode* inode = nullptr;
  Statx seen{};
  const int answer = ceph_ll_lookup(client->mount(), directory, name, &inode, &seen, kWanted,
                                    AT_SYMLINK_NOFOLLOW, own());
  if (answer < 0) return error_of(answer);
  return std::make_shared<const Object>(client, inode, seen);
}

// The directory of that name, which is made if it is not there, for the service alone.
Result<ObjectPtr> directory_in(const std::shared_ptr<Client>& client, Inode* parent,
                               const char* name) {
  Inode* inode = nullptr;
  Statx seen{};
  const int answer =
      ceph_ll_mkdir(client->mount(), parent, name, 0700, &inode, &seen, kWanted, 0, own());
  if (answer < 0 && answer != -EEXIST) return error_of(answer);
  ObjectPtr made;
  if (answer < 0) {
    LIBSERVICES_TRY(made, find(client, parent, name));
  } else {
    made = std::make_shared<const Object>(client, inode, seen);
  }
  if (!made->is(S_IFDIR)) return Errno{ENOTDIR};
  // What the directory around it would give to all that is made here.
  (void)ceph_ll_removexattr(client->mount(), made->inode(),
                            std::string(AccessList::name_of(AccessList::Kind::kDefault)).c_str(),
                            own());
  return made;
}

}  // namespace

Result<void> remove_all(const std::shared_ptr<Client>& client, Inode* parent, const char* name,
                        int depth) {
  ceph_mount_info* const mount = client->mount();
  auto found = find(client, parent, name);
  if (!found.ok()) return found.error() == Errno{ENOENT} ? Result<void>() : found.error();
  if (!(*found)->is(S_IFDIR)) {
    LIBSERVICES_TRY([[maybe_unused]] const auto gone,
                    checked(ceph_ll_unlink(mount, parent, name, own())));
    return {};
  }
  if (depth == kDeepest) return Errno{ELOOP};
  ceph_dir_result* listing = nullptr;
  LIBSERVICES_TRY([[maybe_unused]] const auto opened,
                  checked(ceph_ll_opendir(mount, (*found)->inode(), &listing, own())));
  std::vector<std::string> inside;
  dirent entry{};
  while (ceph_readdir_r(mount, listing, &entry) > 0) {
    const std::string_view text = entry.d_name;
    if (text != "." && text != "..") inside.emplace_back(text);
  }
  (void)ceph_ll_releasedir(mount, listing);
  for (const std::string& text : inside) {
    LIBSERVICES_CHECK_OK(remove_all(client, (*found)->inode(), text.c_str(), depth + 1));
  }
  LIBSERVICES_TRY([[maybe_unused]] const auto gone,
                  checked(ceph_ll_rmdir(mount, parent, name, own())));
  return {};
}

bool WorkDirectory::exists(Client& client, const std::string& path) {
  Statx seen{};
  return ceph_statx(client.mount(), path.c_str(), &seen, CEPH_STATX_INO, 0) == 0;
}

Result<std::unique_ptr<WorkDirectory>> WorkDirectory::open(const std::shared_ptr<Client>& client,
                                                           const std::string& path) {
  std::unique_ptr<WorkDirectory> work(new WorkDirectory(client));
  const std::size_t slash = path.rfind('/');
  const std::string above = slash == 0 ? "/" : path.substr(0, slash);
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_TRY(
      [[maybe_unused]] const auto walked,
      checked(ceph_ll_walk(client->mount(), above.c_str(), &inode, &seen, kWanted, 0, own())));
  const auto parent = std::make_shared<const Object>(client, inode, seen);
  LIBSERVICES_TRY(work->directory_,
                  directory_in(client, parent->inode(), path.c_str() + slash + 1));
  LIBSERVICES_CHECK_OK(work->lock());
  LIBSERVICES_CHECK_OK(remove_all(client, work->directory_->inode(), "staging"));
  LIBSERVICES_TRY(work->staging_, directory_in(client, work->directory_->inode(), "staging"));
  return work;
}

Result<void> WorkDirectory::lock() {
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_TRY([[maybe_unused]] const auto opened,
                  checked(ceph_ll_create(client_->mount(), directory_->inode(), "lock", 0600,
                                         O_RDWR | O_CREAT | O_NOFOLLOW, &inode, &lock_, &seen,
                                         kWanted, 0, own())));
  lock_object_ = std::make_shared<const Object>(client_, inode, seen);
  struct flock all {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  // Instances that share a client differ by their owners.
  const int locked =
      ceph_ll_setlk(client_->mount(), lock_, &all, reinterpret_cast<std::uintptr_t>(this), 0);
  if (locked == 0) return {};
  return locked == -EAGAIN || locked == -EACCES ? Errno{EBUSY} : error_of(locked);
}

WorkDirectory::~WorkDirectory() {
  if (client_->gone()) return;
  if (staging_ != nullptr) (void)remove_all(client_, directory_->inode(), "staging");
  if (lock_ == nullptr) return;
  struct flock all {};
  all.l_type = F_UNLCK;
  all.l_whence = SEEK_SET;
  (void)ceph_ll_setlk(client_->mount(), lock_, &all, reinterpret_cast<std::uintptr_t>(this), 0);
  (void)ceph_ll_close(client_->mount(), lock_);
}

Result<ObjectPtr> WorkDirectory::get(Staging which) {
  if (which == Staging::kDrafts) return staging_;
  if (kept_ == nullptr) {
    LIBSERVICES_TRY(kept_, directory_in(client_, directory_->inode(), "kept"));
  }
  return kept_;
}

}  // namespace libservices::ceph_internal
