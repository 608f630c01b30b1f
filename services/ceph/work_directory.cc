// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/work_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "libservices/access_list.h"

namespace libservices::ceph_internal {
namespace {

constexpr int kDeepest = 4096;  // directories in one another

Result<ObjectPtr> find(const std::shared_ptr<Client>& client, const Use& use, Inode* directory,
                       const char* name) {
  Inode* inode = nullptr;
  Statx seen{};
  const int answer = ceph_ll_lookup(use.info(), directory, name, &inode, &seen, kWanted,
                                    AT_SYMLINK_NOFOLLOW, own_permissions());
  if (answer < 0) return client->failed(use, answer);
  return std::make_shared<const Object>(client, use, inode, seen);
}

// The directory of that name, which is made if it is not there, for the service alone.
Result<ObjectPtr> directory_in(const std::shared_ptr<Client>& client, const Use& use, Inode* parent,
                               const char* name) {
  Inode* inode = nullptr;
  Statx seen{};
  const int answer =
      ceph_ll_mkdir(use.info(), parent, name, 0700, &inode, &seen, kWanted, 0, own_permissions());
  if (answer < 0 && answer != -EEXIST) return client->failed(use, answer);
  ObjectPtr made;
  if (answer < 0) {
    LIBSERVICES_TRY(made, find(client, use, parent, name));
  } else {
    made = std::make_shared<const Object>(client, use, inode, seen);
  }
  if (!made->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(Inode* const directory, made->in(use));
  // What the directory around it would give to all that is made here.
  (void)ceph_ll_removexattr(use.info(), directory,
                            std::string(AccessList::name_of(AccessList::Kind::kDefault)).c_str(),
                            own_permissions());
  return made;
}

struct flock all_of_it(short type) {
  struct flock all {};
  all.l_type = type;
  all.l_whence = SEEK_SET;
  return all;
}

}  // namespace

Result<void> remove_all(const std::shared_ptr<Client>& client, const Use& use, Inode* parent,
                        const char* name, int depth) {
  auto found = find(client, use, parent, name);
  if (!found.ok()) return found.error() == Errno{ENOENT} ? Result<void>() : found.error();
  if (!(*found)->is(S_IFDIR)) {
    LIBSERVICES_CHECK_OK(
        client->checked(use, ceph_ll_unlink(use.info(), parent, name, own_permissions())));
    return {};
  }
  if (depth == kDeepest) return Errno{ELOOP};
  LIBSERVICES_TRY(Inode* const directory, (*found)->in(use));
  ceph_dir_result* listing = nullptr;
  LIBSERVICES_CHECK_OK(
      client->checked(use, ceph_ll_opendir(use.info(), directory, &listing, own_permissions())));
  std::vector<std::string> inside;
  dirent entry{};
  while (ceph_readdir_r(use.info(), listing, &entry) > 0) {
    const std::string_view text = entry.d_name;
    if (text != "." && text != "..") inside.emplace_back(text);
  }
  (void)ceph_ll_releasedir(use.info(), listing);
  for (const std::string& text : inside) {
    LIBSERVICES_CHECK_OK(remove_all(client, use, directory, text.c_str(), depth + 1));
  }
  LIBSERVICES_CHECK_OK(
      client->checked(use, ceph_ll_rmdir(use.info(), parent, name, own_permissions())));
  return {};
}

bool WorkDirectory::exists(Client& client, const std::string& path) {
  const Result<void> found = client.asking([&](const Use& use) -> Result<void> {
    Statx seen{};
    LIBSERVICES_CHECK_OK(
        client.checked(use, ceph_statx(use.info(), path.c_str(), &seen, CEPH_STATX_INO, 0)));
    return {};
  });
  return found.ok();
}

Result<std::unique_ptr<WorkDirectory>> WorkDirectory::open(const std::shared_ptr<Client>& client,
                                                           const std::string& path,
                                                           std::atomic<bool>& displaced) {
  std::unique_ptr<WorkDirectory> work(new WorkDirectory(client, path, displaced));
  LIBSERVICES_TRY(const Use use, client->use());
  LIBSERVICES_CHECK_OK(work->open_in(use));
  // From here on it is locked again on each mount that comes.
  client->add(work.get());
  work->is_kept_ = true;
  if (use.is_dead()) return Errno{EIO};
  return work;
}

Result<void> WorkDirectory::open_in(const Use& use) {
  const std::size_t slash = path_.rfind('/');
  const std::string above = slash == 0 ? "/" : path_.substr(0, slash);
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_CHECK_OK(client_->checked(
      use, ceph_ll_walk(use.info(), above.c_str(), &inode, &seen, kWanted, 0, own_permissions())));
  const Object parent(client_, use, inode, seen);
  LIBSERVICES_TRY(directory_, directory_in(client_, use, inode, path_.c_str() + slash + 1));
  LIBSERVICES_CHECK_OK(lock(use));
  LIBSERVICES_TRY(Inode* const directory, directory_->in(use));
  LIBSERVICES_CHECK_OK(remove_all(client_, use, directory, "staging"));
  LIBSERVICES_TRY(staging_, directory_in(client_, use, directory, "staging"));
  return {};
}

Result<void> WorkDirectory::lock(const Use& use) {
  LIBSERVICES_TRY(Inode* const directory, directory_->in(use));
  Inode* inode = nullptr;
  Fh* handle = nullptr;
  Statx seen{};
  LIBSERVICES_CHECK_OK(client_->checked(
      use, ceph_ll_create(use.info(), directory, "lock", 0600, O_RDWR | O_CREAT | O_NOFOLLOW,
                          &inode, &handle, &seen, kWanted, 0, own_permissions())));
  ceph_ll_put(use.info(), inode);  // the open file has it
  lock_.set(use, handle);
  struct flock all = all_of_it(F_WRLCK);
  // Instances that share a client differ by their owners.
  const int locked =
      ceph_ll_setlk(use.info(), handle, &all, reinterpret_cast<std::uintptr_t>(this), 0);
  if (locked == 0) return {};
  return locked == -EAGAIN || locked == -EACCES ? Errno{EBUSY} : client_->failed(use, locked);
}

void WorkDirectory::take_again(const Use& fresh) {
  const Result<void> locked = lock(fresh);
  // A mount that has died, too, is followed by another one.
  displaced_ = !locked.ok() && !fresh.is_dead();
  if (displaced_) {
    std::fputs(fmt::format("ceph: the work directory {}: {} (while the cluster had shut this "
                           "client out, another service took it: changes are refused)\n",
                           path_, std::strerror(locked.error().value))
                   .c_str(),
               stderr);
  }
}

WorkDirectory::~WorkDirectory() {
  if (is_kept_) client_->remove(this);
  const Use use = client_->try_use();
  if (!use) return;
  Fh* const handle = lock_.take(use);
  if (staging_ != nullptr && handle != nullptr && !displaced_) {
    const Result<Inode*> directory = directory_->in(use);
    if (directory.ok()) (void)remove_all(client_, use, *directory, "staging");
  }
  if (handle == nullptr) return;
  struct flock all = all_of_it(F_UNLCK);
  (void)ceph_ll_setlk(use.info(), handle, &all, reinterpret_cast<std::uintptr_t>(this), 0);
  (void)ceph_ll_close(use.info(), handle);
}

Result<ObjectPtr> WorkDirectory::get(Staging which) {
  if (displaced_) return Errno{EBUSY};
  if (which == Staging::kDrafts) return staging_;
  if (kept_ == nullptr) {
    LIBSERVICES_TRY(const Use use, client_->use());
    LIBSERVICES_TRY(Inode* const directory, directory_->in(use));
    LIBSERVICES_TRY(kept_, directory_in(client_, use, directory, "kept"));
  }
  return kept_;
}

}  // namespace libservices::ceph_internal
