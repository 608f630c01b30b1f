// SPDX-License-Identifier: Apache-2.0
//
// `Ceph`: a directory of a CephFS, through libcephfs and without a mount of the kernel.
//
// Use it by itself, or as a branch of a union. Other clients may change the directory at the same
// time: then every answer is asked for anew, of libcephfs, which knows from the cluster whether
// what it has cached is still true. With `exclusive` nobody else changes it while this runs, and
// what is above may remember. README.md says what CephFS does otherwise than a host's filesystem.
//
// What was written is in the memory of this process until fsync, or until the cluster asks for it.
// A client that the cluster has shut out comes back by itself; of files with changes that were not
// synchronised, and those who try to synchronise them, it says EIO.
// WARNING: never fork while one is started: libcephfs does not work in the child.
// THREADS: all operations at once. A dead cluster blocks them for as long as it is dead; reads and
// writes end with ETIMEDOUT if `data_timeout` says so.
#ifndef LIBSERVICES_SERVICES_CEPH_CEPH_H_
#define LIBSERVICES_SERVICES_CEPH_CEPH_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "libservices/capabilities.h"
#include "services/ceph/client.h"
#include "services/ceph/hot_pages.h"
#include "services/ceph/names.h"
#include "services/ceph/open_file.h"
#include "services/ceph/work_directory.h"

namespace libservices {

class Ceph {
  using C = const Context&;

 public:
  struct Config {
    std::string directory = "/";  // from the root of the CephFS; must exist
    // A directory of the same CephFS for what is not finished; made at first use. Empty: the
    // directory's own name with ".work" behind it.
    std::string work;
    bool exclusive = false;  // nobody else changes the directory; an upper of a union must have it
    // Nobody writes to files in it, not through this either; a lower of a union. Then pages that
    // small reads have met are kept, up to `hot_bytes`, and answered without libcephfs's lock.
    bool unchanging = false;
    std::uint64_t hot_bytes = std::uint64_t{64} << 20U;

    // Instances that agree in all that follows share a client, with its cache.

    std::string conf_file;  // empty: that of `cluster`, else $CEPH_CONF, else /etc/ceph/ceph.conf
    std::string cluster;    // /etc/ceph/CLUSTER.conf and /etc/ceph/CLUSTER.client.CLIENT.keyring
    std::string client = "admin";  // without the "client." before it
    std::string key_file;          // a keyring, or a file with the key alone
    std::string filesystem;        // where the cluster has several
    std::string root = "/";        // what is mounted: all that the key lets the client reach
    std::uint64_t cache_bytes = std::uint64_t{200} << 20U;
    std::uint64_t dirty_bytes = 0;  // of them, not yet written; at most, and if 0, the half
    std::chrono::nanoseconds flush_after = std::chrono::seconds(5);    // they are written by then
    std::chrono::nanoseconds mount_timeout = std::chrono::seconds(5);  // whole seconds count
    std::chrono::nanoseconds data_timeout{0};  // of a read or write-back; 0: as long as it takes
    // Names what a service holds, for the time after its death: the next one of that name has it at
    // once. No two clients at the same time may have one name. If it is empty, it is made of who
    // the service is and of these settings; if that is empty, too, the cluster waits a minute.
    std::string session;
    std::string service;
  };
  using Node = ceph_internal::ObjectPtr;
  using File = std::unique_ptr<ceph_internal::OpenFile>;

  explicit Ceph(Config config)
      : config_(std::move(config)), hot_(config_.unchanging ? config_.hot_bytes : 0) {}

  absl::Status start();
  absl::Status stop();
  Coherence coherence() const {
    return {config_.exclusive ? Coherence::Kind::kChangesOnlyThroughMe : Coherence::Kind::kAskAgain,
            {}};
  }
  // Whenever the cluster shut the client out.
  std::uint64_t losses() const { return client_ != nullptr ? client_->generation() : 0; }
  // Cluster, filesystem and directory; after start().
  const std::string& place() const { return place_; }

  Result<Entry<Node>> root(C context);
  Result<Entry<Node>> lookup(C context, const Node& directory, std::string_view name);
  Result<Attributes> getattr(C context, const Node& node);
  Result<Opened<File>> open(C context, const Node& node, OpenFlags flags);
  Result<std::size_t> read(C context, File& file, std::uint64_t offset, std::span<std::byte> into);
  Result<void> close(C context, File& file);
  Result<void> readdir(C context, File& directory, std::uint64_t after, Listing wanted,
                       EntrySink sink);
  Result<std::size_t> readlink(C context, const Node& node, std::span<char> into);
  Result<VolumeInfo> statfs(C context, const Node& node);

  Result<Created<Node, File>> create(C context, const Node& directory, std::string_view name,
                                     const NewNode& fresh, OpenFlags flags);
  Result<std::size_t> write(C context, File& file, std::uint64_t offset,
                            std::span<const std::byte> from);
  Result<void> fsync(C context, File& file, SyncScope scope);
  Result<void> fallocate(C context, File& file, int mode, std::uint64_t offset,
                         std::uint64_t length);
  Result<Attributes> setattr(C context, const Node& node, const AttributeChanges& changes);

  Result<Entry<Node>> mkdir(C context, const Node& directory, std::string_view name,
                            const NewNode& fresh);
  Result<Entry<Node>> mknod(C context, const Node& directory, std::string_view name,
                            const NewNode& fresh);
  Result<Entry<Node>> symlink(C context, const Node& directory, std::string_view name,
                              std::string_view target, const NewNode& fresh);
  Result<Entry<Node>> link(C context, const Node& node, const Node& directory,
                           std::string_view name);
  Result<void> unlink(C context, const Node& directory, std::string_view name);
  Result<void> rmdir(C context, const Node& directory, std::string_view name);
  static constexpr bool kExchangesNames = false;  // the cluster cannot
  // kNoReplace, unless `exclusive`: EINVAL but for directories, and those have for a moment an
  // empty one under the new name.
  Result<void> rename(C context, const Node& directory, std::string_view name,
                      const Node& new_directory, std::string_view new_name, RenameMode mode);
  Result<Node> staging(C context, Staging which);

  Result<std::size_t> getxattr(C context, const Node& node, std::string_view name,
                               std::span<std::byte> into);
  Result<void> setxattr(C context, const Node& node, std::string_view name,
                        std::span<const std::byte> value, XattrMode mode);
  Result<std::size_t> listxattr(C context, const Node& node, std::span<char> into);
  Result<void> removexattr(C context, const Node& node, std::string_view name);

  // Among all clients of the cluster, unless `exclusive` or `unchanging`. Of those on directories,
  // and in snapshots, it is not told.
  Result<void> lock(C context, File& file, std::uint64_t owner, const LockRequest& request);
  Result<LockRequest> test_lock(C context, File& file, std::uint64_t owner,
                                const LockRequest& request);

 private:
  using Statx = ceph_internal::Statx;
  using Use = ceph_internal::Use;
  using OpenFile = ceph_internal::OpenFile;

  // As Client::changing, unless somebody else has the work directory now.
  template <class Call>
  auto changing(const Node& near, Call call) -> decltype(call(std::declval<const Use&>())) {
    if (displaced_.load(std::memory_order_relaxed)) return Errno{EIO};
    return client_->changing(near, call);
  }
  Entry<Node> admit(const Use& use, Inode* inode, const Statx& seen) const;
  Result<Attributes> attributes(C context, const Use& use, const Node& node) const;
  Result<void> list(C context, const Use& use, OpenFile& open, std::uint64_t after, Listing wanted,
                    EntrySink sink);
  Result<Entry<Node>> find(C context, const Use& use, const Node& directory,
                           const ceph_internal::Name& name) const;
  // Gives what was just made the owner and mode that it shall have, or fails.
  Result<void> dress(C context, const Use& use, Inode* inode, Statx& seen,
                     const NewNode& fresh) const;
  // `make(use, directory, name, permissions, &inode, &statx)` makes an object, which
  // `remove(use, directory, name)` removes again if it cannot be dressed.
  template <class Make, class Remove>
  Result<Entry<Node>> add(C context, const Node& directory, std::string_view name,
                          const NewNode& fresh, Make make, Remove remove);
  // Whether `directory` is the one of that number, or below it. REQUIRES: lock_moves().
  bool is_within(const Use& use, const Node& directory, std::uint64_t ancestor) const;
  bool tells_locks(const File& file) const;
  using Dropper = int (*)(ceph_mount_info*, Inode*, const char*, const UserPerm*);
  Result<void> drop(C context, const Node& directory, std::string_view name, Dropper call);
  struct Names;
  Result<void> rename_in(C context, const Use& use, const Entry<Node>& here, const Names& names,
                         RenameMode mode);
  Result<void> rename_to_free(C context, const Use& use, const Entry<Node>& moved,
                              const Names& names);
  static void learn_times(C context, const Use& use, Inode* directory);
  // A rename onto one of several names of an object, by a client that remembers no names.
  Result<void> rename_onto_link(C context, const Names& names);

  const Config config_;
  ceph_internal::HotPages hot_;
  std::shared_ptr<ceph_internal::Client> client_;
  std::string place_;
  Node root_;
  std::atomic<bool> displaced_{false};  // somebody else has the work directory

  std::mutex work_mutex_;
  std::unique_ptr<ceph_internal::WorkDirectory> work_;  // under work_mutex_, as what follows
  bool told_ = false;                                   // why there is no staging
};

static_assert(WritableService<Ceph>);
static_assert(capabilities_of<Ceph>() == Capabilities{.writable = true,
                                                      .readlink = true,
                                                      .symlink = true,
                                                      .link = true,
                                                      .mknod = true,
                                                      .tmpfile = false,
                                                      .staging = true,
                                                      .statfs = true,
                                                      .xattrs = true,
                                                      .append = false,
                                                      .fallocate = true,
                                                      .seek = false,
                                                      .copy_range = false,
                                                      .backing = false,
                                                      .clone = false,
                                                      .flags = false,
                                                      .flag_changes = false,
                                                      .locks = true});

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_CEPH_CEPH_H_
