// SPDX-License-Identifier: Apache-2.0
//
// `Local`: a directory of the host.
//
// Objects are reached one name at a time, never through a symbolic link, so that nothing outside
// the directory can be reached; mounts below it are not entered (EXDEV). Identity is the host's
// device and inode number. README.md says what it costs.
//
// Use it as a branch of a union, or by itself. Others may change the directory at the same time:
// then every answer is asked for anew. With `exclusive` nobody else changes it while it runs, and
// what is above may remember.
//
// A service that runs as root gives new objects their owner. Any other service owns them itself.
// THREADS: all operations at once; the host's kernel orders them.
#ifndef LIBSERVICES_SERVICES_LOCAL_LOCAL_H_
#define LIBSERVICES_SERVICES_LOCAL_LOCAL_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "libservices/capabilities.h"
#include "services/local/mapped_file.h"
#include "services/local/nodes.h"
#include "services/local/work_directory.h"

namespace libservices {

class Local {
  using C = const Context&;

 public:
  struct Config {
    std::string directory;
    // A directory on the same volume for what is not finished; made at first use. Empty: the
    // directory's own name with ".work" behind it.
    std::string work;
    bool exclusive = false;            // nobody else changes the directory
    // Files of which much is read again are mapped (mapped_file.h). WARNING: that takes SIGBUS's
    // handler of this process.
    bool map_reads = false;
    // Kept to known objects; 0: what the limit's quarter gives each Local of the process, <= 4096.
    std::size_t most_descriptors = 0;
  };
  using Node = local_internal::RecordPtr;

  struct OpenFile {
    explicit OpenFile(int fd) : descriptor(std::make_shared<local_internal::Descriptor>(fd)) {}
    int fd() const { return descriptor->fd(); }

    std::shared_ptr<local_internal::Descriptor> descriptor;
    bool only_appends = false;       // the host lets nothing else
    Node node;                       // of which calls may use the descriptor meanwhile
    std::mutex offset;               // held while the descriptor's own offset counts
    std::uint64_t listed = 0;        // where a listing left that offset; guarded by `offset`
    std::unique_ptr<char[]> buffer;  // of listings; guarded by `offset`
    local_internal::MappedFile mapped;
  };
  using File = std::unique_ptr<OpenFile>;

  explicit Local(Config config) : config_(std::move(config)) { instances_.fetch_add(1); }
  ~Local() { instances_.fetch_sub(1); }

  absl::Status start();
  absl::Status stop();
  Coherence coherence() const {
    return {config_.exclusive ? Coherence::Kind::kChangesOnlyThroughMe : Coherence::Kind::kAskAgain,
            {}};
  }
  // The directory's real path; after start().
  const std::string& place() const { return place_; }
  // Of the host's page cache, which outlives this process: another one after each boot.
  std::uint64_t data_epoch() const { return epoch_; }

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
  Result<Created<Node, File>> tmpfile(C context, const Node& directory, const NewNode& fresh,
                                      OpenFlags flags);
  Result<std::size_t> write(C context, File& file, std::uint64_t offset,
                            std::span<const std::byte> from);
  Result<std::uint64_t> append(C context, File& file, std::span<const std::byte> from,
                               std::size_t& written);
  Result<void> fsync(C context, File& file, SyncScope scope);
  Result<void> fallocate(C context, File& file, int mode, std::uint64_t offset,
                         std::uint64_t length);
  Result<std::uint64_t> seek(C context, File& file, std::uint64_t offset, SeekTarget target);
  Result<std::uint64_t> copy_range(C context, File& from, std::uint64_t from_offset, File& to,
                                   std::uint64_t to_offset, std::uint64_t length);
  Result<Backing> backing(C, File& file, BackingUse) { return Backing{file->fd()}; }
  Result<void> clone(C context, File& file, Backing from);
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
  Result<void> rename(C context, const Node& directory, std::string_view name,
                      const Node& new_directory, std::string_view new_name, RenameMode mode);
  Result<Node> staging(C context, Staging which);

  Result<std::size_t> getxattr(C context, const Node& node, std::string_view name,
                               std::span<std::byte> into);
  Result<void> setxattr(C context, const Node& node, std::string_view name,
                        std::span<const std::byte> value, XattrMode mode);
  Result<std::size_t> listxattr(C context, const Node& node, std::span<char> into);
  Result<void> removexattr(C context, const Node& node, std::string_view name);

  Result<InodeFlags> getflags(C context, const Node& node, InodeFlags::Form form);
  Result<void> setflags(C context, const Node& node, const InodeFlags& flags);

  // Descriptors of known objects that are open now; those of open files are not among them.
  std::size_t kept_descriptors() const {
    return nodes_ != nullptr ? nodes_->open_descriptors() : 0;
  }

 private:
  using DescriptorRef = local_internal::DescriptorRef;
  using Name = local_internal::Name;

  // A directory and a name in it, both checked.
  struct Place {
    DescriptorRef parent;
    Name name;
    std::uint64_t epoch;

    int fd() const { return parent->fd(); }
    const char* c_str() const { return name.c_str(); }
  };

  Result<Place> place_of(const Node& directory, std::string_view name);
  // What a new object is made with, before its owner is right.
  mode_t first_mode(const NewNode& fresh) const;
  // Gives the object of `fd` the owner and mode that it shall have.
  Result<Attributes> dress(int fd, const NewNode& fresh) const;
  // The same for what was just made at `at`, which is removed again if that fails.
  Result<Entry<Node>> finish(const Place& at, const Node& directory, const NewNode& fresh,
                             int removal);
  Result<Opened<File>> opened(const Node& node, File file, const Attributes& seen);
  Result<Entry<Node>> look(const Place& at, const Node& directory);
  Result<void> remove(const Node& directory, std::string_view name, int flags);
  template <class ByDescriptor, class ByPath, class ByName>
  Result<std::size_t> read_attributes(const Node& node, ByDescriptor by_descriptor,
                                      ByPath by_path, ByName by_name);
  std::string work_path() const;
  absl::Status open_work(Errno& why);

  static inline std::atomic<std::size_t> instances_{0};  // of the process, started or not

  const Config config_;
  std::string place_;
  std::shared_ptr<local_internal::Nodes> nodes_;
  Node root_;
  std::uint64_t device_ = 0;
  std::uint64_t mount_ = 0;
  std::uint64_t epoch_ = 0;
  bool privileged_ = false;  // may give files away

  std::mutex work_mutex_;
  std::unique_ptr<local_internal::WorkDirectory> work_;  // this and what follows: under work_mutex_
  Node staging_;
  Node kept_;
  bool told_ = false;  // why there is no staging
};

static_assert(WritableService<Local>);
static_assert(capabilities_of<Local>() == Capabilities{.writable = true,
                                                       .readlink = true,
                                                       .symlink = true,
                                                       .link = true,
                                                       .mknod = true,
                                                       .tmpfile = true,
                                                       .staging = true,
                                                       .statfs = true,
                                                       .xattrs = true,
                                                       .append = true,
                                                       .fallocate = true,
                                                       .seek = true,
                                                       .copy_range = true,
                                                       .backing = true,
                                                       .clone = true,
                                                       .flags = true,
                                                       .flag_changes = true,
                                                       .locks = false});

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_LOCAL_LOCAL_H_
