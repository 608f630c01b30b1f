// SPDX-License-Identifier: Apache-2.0
#include "tests/host/behind_ipc.h"

#include <dirent.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "ipc/front_driver.h"
#include "libservices/host.h"
#include "libservices/sources/memory.h"
#include "src/host/run_directory.h"
#include "src/protocol/messages.h"
#include "src/protocol/placeholder.h"

namespace libservices::testing {
namespace {

namespace protocol = libservices::protocol;
using protocol::Operation;

// One identity's connection.
class BehindSession {
 public:
  BehindSession(const std::string& socket, uid_t uid, gid_t gid, std::vector<gid_t> groups) {
    // By system call: libc's functions would change every thread.
    std::thread([&] {
      ::syscall(SYS_setgroups, groups.size(), groups.data());
      ::syscall(SYS_setresgid, gid, gid, gid);
      ::syscall(SYS_setresuid, uid, uid, uid);
      protocol::Welcome welcome;
      std::size_t bytes = 0;
      int descriptors[protocol::kFirstStock];
      unsigned count = std::size(descriptors);
      error = driver.attach(socket.c_str(), &welcome, sizeof welcome, bytes, descriptors, count);
      for (unsigned i = 0; error == 0 && i < count; ++i) keep(welcome.stock[i], descriptors[i]);
    }).join();
  }
  ~BehindSession() {
    for (const auto& [id, descriptor] : stock_) ::close(descriptor);
    driver.detach();
  }

  // A placeholder and its descriptor.
  std::pair<protocol::Placeholder, int> take() {
    std::lock_guard lock(mutex_);
    if (stock_.empty()) {
      protocol::SocketAnswer answer;
      std::vector<int> descriptors =
          ask({protocol::SocketRequestType::kStock, 16, 0, 0}, {}, answer);
      for (unsigned i = 0; i < descriptors.size(); ++i) keep(answer.stock[i], descriptors[i]);
    }
    if (stock_.empty()) return {protocol::kNone, -1};
    const auto taken = stock_.back();
    stock_.pop_back();
    return taken;
  }
  void give_back(std::pair<protocol::Placeholder, int> placeholder) {
    std::lock_guard lock(mutex_);
    stock_.push_back(placeholder);
  }
  protocol::Handle adopt(int descriptor) {
    std::lock_guard lock(mutex_);
    protocol::SocketAnswer answer;
    (void)ask({protocol::SocketRequestType::kAdopt, 1, 0, 0}, {descriptor}, answer);
    return answer.count == 1 ? answer.adopted[0].handle : 0;
  }

  ipc::FrontDriver driver;
  long error = 0;

 private:
  void keep(const protocol::StockEntry& entry, int descriptor) {
    if (entry.is_directory != 0) {
      ::close(descriptor);
    } else {
      stock_.emplace_back(entry.id, descriptor);
    }
  }
  std::vector<int> ask(protocol::SocketRequest request, std::vector<int> sent,
                       protocol::SocketAnswer& answer) {
    const iovec part{&request, sizeof request};
    if (ipc::send_message(driver.socket(), &part, 1, sent.data(),
                          static_cast<unsigned>(sent.size())) != 0) {
      return {};
    }
    int descriptors[ipc::kMostDescriptors];
    unsigned count = ipc::kMostDescriptors;
    (void)ipc::receive_message(driver.socket(), &answer, sizeof answer, descriptors, count);
    return {descriptors, descriptors + count};
  }

  std::mutex mutex_;
  std::vector<std::pair<protocol::Placeholder, int>> stock_;  // guarded by mutex_
};

class BehindOpenFile final : public OpenFile {
 public:
  BehindOpenFile(OpenFlags flags, BehindSession& opener, protocol::Handle handle,
                 std::pair<protocol::Placeholder, int> placeholder)
      : OpenFile(flags), opener(opener), placeholder(placeholder), sent_flags(flags.bits) {
    handles[&opener] = handle;
  }

  protocol::Handle handle_in(BehindSession& session) {
    std::lock_guard lock(mutex);
    auto& handle = handles[&session];
    if (handle == 0) handle = session.adopt(placeholder.second);
    return handle;
  }

  BehindSession& opener;
  const std::pair<protocol::Placeholder, int> placeholder;
  std::mutex mutex;
  std::map<BehindSession*, protocol::Handle> handles;  // guarded by mutex
  std::atomic<int> sent_flags;
};

class BehindIpc final : public AnyFilesystem {
  using C = const Context&;
  using L = const Location&;
  static constexpr int kMostLinks = 40;

 public:
  absl::Status start() override {
    char name[] = "/tmp/libservices-behind-ipc.XXXXXX";
    directory_ = ::mkdtemp(name);
    std::filesystem::permissions(directory_, std::filesystem::perms{0755});
    catalog_.add<Memory>("memory");
    HostConfig config;
    config.run_directory = directory_ + "/run";
    config.mounts = {{"/mnt", "memory"}};
    config.clients = HostConfig::Clients::kAllUsers;
    host_ = std::make_unique<Host>(config, catalog_);
    return host_->start();
  }
  absl::Status stop() override {
    sessions_.clear();
    const absl::Status stopped = host_->stop();
    std::filesystem::remove_all(directory_);
    return stopped;
  }

  Result<OpenFilePtr> open(C c, L at, OpenFlags flags, mode_t mode) override {
    BehindSession& session = this->session(c);
    const auto placeholder = session.take();
    protocol::OpenRequest request;
    request.flags = static_cast<std::uint32_t>(flags.bits);
    request.mode = static_cast<std::uint16_t>(mode);
    request.umask = static_cast<std::uint16_t>(c.umask);
    request.placeholder = placeholder.first;
    auto answer = at_one(c, Operation::kOpen, at, request);
    if (!answer.ok()) {
      session.give_back(placeholder);
      return answer.error();
    }
    const auto opened = answer->as<protocol::OpenAnswer>();
    // The flags as they were asked for, without what is not part of an open file.
    const int kept = static_cast<int>(opened.flags) & ~0100000;
    return OpenFilePtr(
        std::make_shared<BehindOpenFile>(OpenFlags{kept}, session, opened.handle, placeholder));
  }

  Result<void> close(C c, OpenFilePtr file) override {
    if (file.use_count() > 1) return {};
    auto& open = static_cast<BehindOpenFile&>(*file);
    for (const auto& [session, handle] : open.handles) {
      if (session != &open.opener)
        (void)on(*session, Operation::kClose, protocol::CloseRequest{handle, 0});
    }
    (void)c;
    auto closed =
        on(open.opener, Operation::kClose, protocol::CloseRequest{open.handles[&open.opener], 1});
    open.opener.give_back(open.placeholder);
    return plain(closed);
  }

  Result<std::size_t> read(C c, OpenFile& f, std::span<std::byte> into) override {
    return pread(c, f, protocol::kCurrentOffset, into);
  }
  Result<std::size_t> pread(C c, OpenFile& f, std::uint64_t offset,
                            std::span<std::byte> into) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    LIBSERVICES_TRY(auto answer, on(session(c), Operation::kRead,
                                    protocol::ReadRequest{handle, offset, into.size()}));
    std::memcpy(into.data(), answer.output.data(), answer.output.size());
    return answer.output.size();
  }
  Result<std::size_t> write(C c, OpenFile& f, std::span<const std::byte> from,
                            Placing placing) override {
    return pwrite(c, f, protocol::kCurrentOffset, from, placing);
  }
  Result<std::size_t> pwrite(C c, OpenFile& f, std::uint64_t offset,
                             std::span<const std::byte> from, Placing placing) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    std::size_t written = 0;
    // A longer write is several requests, as in any filesystem library.
    do {
      const auto part =
          from.subspan(written, std::min<std::size_t>(from.size() - written, 1 << 20));
      const auto at = offset == protocol::kCurrentOffset ? offset : offset + written;
      auto answer = on(session(c), Operation::kWrite, protocol::WriteRequest{handle, at, placing},
                       {reinterpret_cast<const char*>(part.data()), part.size()});
      if (!answer.ok()) {
        if (written != 0) break;
        return answer.error();
      }
      written += answer->words[0];
      if (answer->words[0] < part.size()) break;
    } while (written < from.size());
    return written;
  }
  Result<std::uint64_t> lseek(C c, OpenFile& f, std::int64_t offset, int whence) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    return word(on(session(c), Operation::kSeek, protocol::SeekRequest{handle, offset, whence}));
  }
  Result<void> readdir(C c, OpenFile& f, Listing, EntrySink sink) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    for (;;) {
      LIBSERVICES_TRY(const std::uint64_t start, lseek(c, f, 0, SEEK_CUR));
      LIBSERVICES_TRY(auto answer,
                      on(session(c), Operation::kReaddir, protocol::ReaddirRequest{handle, 4096}));
      if (answer.output.empty()) return {};
      std::uint64_t last = start;
      for (std::string_view rest = answer.output; !rest.empty();) {
        dirent64 record{};
        std::memcpy(&record, rest.data(), offsetof(dirent64, d_name));
        const DirEntry entry{.name = rest.data() + offsetof(dirent64, d_name),
                             .inode = record.d_ino,
                             .type = record.d_type,
                             .cookie = static_cast<std::uint64_t>(record.d_off)};
        if (!sink(entry)) {
          LIBSERVICES_CHECK_OK(lseek(c, f, static_cast<std::int64_t>(last), SEEK_SET));
          return {};
        }
        last = entry.cookie;
        rest.remove_prefix(record.d_reclen);
      }
    }
  }
  Result<void> fsync(C c, OpenFile& f, SyncScope scope) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    return plain(on(session(c), Operation::kFsync,
                    protocol::FsyncRequest{handle, scope == SyncScope::kData ? 1U : 0U}));
  }
  Result<void> fallocate(C c, OpenFile& f, int mode, std::uint64_t offset,
                         std::uint64_t length) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    return plain(on(session(c), Operation::kFallocate,
                    protocol::FallocateRequest{handle, mode, 0, offset, length}));
  }
  Result<std::uint64_t> copy_range(C c, OpenFile& from, std::uint64_t from_offset, OpenFile& to,
                                   std::uint64_t to_offset, std::uint64_t length) override {
    LIBSERVICES_TRY(const auto from_handle, handle_of(c, from));
    LIBSERVICES_TRY(const auto to_handle, handle_of(c, to));
    return word(
        on(session(c), Operation::kCopyRange,
           protocol::CopyRangeRequest{from_handle, from_offset, to_handle, to_offset, length}));
  }

  Result<Attributes> stat(C c, L at) override {
    LIBSERVICES_TRY(auto answer, at_one(c, Operation::kStat, at, protocol::StatRequest{}));
    return answer.as<Attributes>();
  }
  Result<void> setattr(C c, L at, const AttributeChanges& changes) override {
    return plain(at_one(c, Operation::kSetattr, at, protocol::SetattrRequest{{}, changes}));
  }
  Result<void> access(C c, L at, int mode) override {
    return plain(at_one(c, Operation::kAccess, at,
                        protocol::AccessRequest{{}, static_cast<std::uint32_t>(mode)}));
  }
  Result<VolumeInfo> statfs(C c, L at) override {
    LIBSERVICES_TRY(auto answer, at_one(c, Operation::kStatfs, at, protocol::StatfsRequest{}));
    return answer.as<VolumeInfo>();
  }
  Result<void> mkdir(C c, L at, mode_t mode) override {
    return plain(
        at_one(c, Operation::kMkdir, at, protocol::MknodRequest{{}, mode & 07777U, c.umask, 0}));
  }
  Result<void> mknod(C c, L at, mode_t mode, std::uint64_t device) override {
    return plain(
        at_one(c, Operation::kMknod, at, protocol::MknodRequest{{}, mode, c.umask, device}));
  }
  Result<void> symlink(C c, std::string_view target, L at) override {
    return plain(at_one(c, Operation::kSymlink, at,
                        protocol::SymlinkRequest{{}, static_cast<std::uint32_t>(target.size())},
                        target));
  }
  Result<std::size_t> readlink(C c, L at, std::span<char> into) override {
    LIBSERVICES_TRY(auto answer, at_one(c, Operation::kReadlink, at,
                                        protocol::ReadlinkRequest{{}, into.size()}));
    std::memcpy(into.data(), answer.output.data(), answer.output.size());
    return answer.output.size();
  }
  Result<void> link(C c, L from, L to) override { return at_two(c, Operation::kLink, from, to, 0); }
  Result<void> unlink(C c, L at) override {
    return plain(at_one(c, Operation::kUnlink, at, protocol::UnlinkRequest{}));
  }
  Result<void> rmdir(C c, L at) override {
    return plain(at_one(c, Operation::kRmdir, at, protocol::UnlinkRequest{}));
  }
  Result<void> rename(C c, L from, L to, RenameMode mode) override {
    return at_two(c, Operation::kRename, from, to, static_cast<std::uint32_t>(mode));
  }

  Result<std::size_t> getxattr(C c, L at, std::string_view name,
                               std::span<std::byte> into) override {
    return xattr_read(c, Operation::kGetxattr, at, name,
                      {reinterpret_cast<char*>(into.data()), into.size()});
  }
  Result<void> setxattr(C c, L at, std::string_view name, std::span<const std::byte> value,
                        XattrMode mode) override {
    std::string input(name);
    input.append(reinterpret_cast<const char*>(value.data()), value.size());
    return plain(at_one(c, Operation::kSetxattr, at,
                        protocol::XattrRequest{{},
                                               static_cast<std::uint32_t>(name.size()),
                                               static_cast<std::uint32_t>(mode),
                                               value.size()},
                        input));
  }
  Result<std::size_t> listxattr(C c, L at, std::span<char> into) override {
    return xattr_read(c, Operation::kListxattr, at, {}, into);
  }
  Result<void> removexattr(C c, L at, std::string_view name) override {
    return plain(at_one(c, Operation::kRemovexattr, at,
                        protocol::XattrRequest{{}, static_cast<std::uint32_t>(name.size()), 0, 0},
                        name));
  }

  Result<void> lock(C c, OpenFile& f, const LockRequest& lock) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    return plain(on(session(c), Operation::kLock, words_of(handle, lock)));
  }
  Result<LockRequest> test_lock(C c, OpenFile& f, const LockRequest& lock) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    LIBSERVICES_TRY(auto answer, on(session(c), Operation::kTestLock, words_of(handle, lock)));
    const auto held = answer.as<protocol::LockWords>();
    LockRequest result = lock;
    result.type = static_cast<LockRequest::Type>(held.type);
    result.start = held.start;
    result.end = held.end;
    result.process = held.pid < 0 ? 0 : static_cast<std::uint64_t>(held.pid);
    return result;
  }
  void forget_process(std::uint64_t) override {}  // the kernel tells the service, and nobody else

  Result<std::string> path_of(C c, OpenFile& f) override {
    LIBSERVICES_TRY(const auto handle, handle_of(c, f));
    LIBSERVICES_TRY(auto answer,
                    on(session(c), Operation::kPathOf, protocol::PathOfRequest{handle}));
    return answer.output;
  }
  FilesystemCounters counters() const override {
    const auto mount = nlohmann::json::parse(host_->status())["mounts"][0];
    return {.open_files = mount["open_files"],
            .known_objects = mount["known_objects"],
            .cached_names = mount["cached_names"],
            .locks = mount["locks"]};
  }

 private:
  struct Answered {
    std::uint64_t words[protocol::kAnswerWords];
    std::string output;
    bool outside = false;

    template <class T>
    T as() const {
      T value;
      std::memcpy(static_cast<void*>(&value), words, sizeof value);
      return value;
    }
  };

  static Result<void> plain(const Result<Answered>& answer) {
    if (!answer.ok()) return answer.error();
    return {};
  }
  static Result<std::uint64_t> word(const Result<Answered>& answer) {
    if (!answer.ok()) return answer.error();
    return answer->words[0];
  }
  static protocol::LockWords words_of(protocol::Handle handle, const LockRequest& lock) {
    return {handle,
            static_cast<std::uint32_t>(lock.owner),
            static_cast<std::uint32_t>(lock.type),
            lock.start,
            lock.end,
            0};
  }

  BehindSession& session(C c) {
    std::vector<gid_t> groups(c.caller.groups.begin(), c.caller.groups.end());
    std::lock_guard lock(mutex_);
    auto& session = sessions_[{c.caller.uid, c.caller.gid, groups}];
    if (session == nullptr) {
      session = std::make_unique<BehindSession>(host::socket_path(directory_ + "/run"),
                                                c.caller.uid, c.caller.gid, groups);
    }
    return *session;
  }

  Result<protocol::Handle> handle_of(C c, OpenFile& file) {
    auto& open = static_cast<BehindOpenFile&>(file);
    BehindSession& session = this->session(c);
    const protocol::Handle handle = open.handle_in(session);
    if (handle == 0) return Errno{EBADF};
    if (const int flags = file.flags().bits; open.sent_flags.exchange(flags) != flags) {
      LIBSERVICES_CHECK_OK(on(session, Operation::kSetFlags,
                              protocol::FlagsRequest{handle, static_cast<std::uint32_t>(flags)}));
    }
    return handle;
  }

  template <class Words>
  Result<Answered> on(BehindSession& session, Operation operation, const Words& words,
                      std::string_view input = {}) {
    if (session.error != 0) return Errno{static_cast<int>(-session.error)};
    if (input.size() > ipc::kDataBytes) return Errno{ENAMETOOLONG};
    ipc::RequestBuffer* buffer = nullptr;
    while ((buffer = session.driver.take_buffer()) == nullptr) std::this_thread::yield();
    buffer->start(static_cast<std::uint16_t>(operation), 0);
    buffer->set_words(words);
    buffer->add(input.data(), input.size());
    if (!session.driver.call(*buffer)) return Errno{EIO};
    Answered answered;
    const std::int32_t error = buffer->answer.error;
    std::memcpy(answered.words, buffer->answer.words, sizeof answered.words);
    answered.output.assign(reinterpret_cast<const char*>(buffer->data),
                           buffer->answer.output_bytes);
    session.driver.give_back(*buffer);
    answered.outside = error == protocol::kOutside;
    if (error != 0 && !answered.outside) return Errno{error};
    return answered;
  }

  // The wire's form of a location: what of its path, and the open file, as session `c` names it.
  Result<protocol::Target> target_of(C c, L at, std::string_view path, bool from_root) {
    protocol::Target target;
    if (at.base != nullptr && !from_root) {
      LIBSERVICES_TRY(target.base, handle_of(c, *at.base));
    }
    const bool itself = at.itself && !from_root;
    target.flags = (at.follow == Follow::kYes ? protocol::Target::kFollow : 0U) |
                   (itself ? protocol::Target::kItself : 0U) |
                   (at.bounds == Bounds::kBeneath ? protocol::Target::kBeneath : 0U) |
                   (at.bounds == Bounds::kInRoot ? protocol::Target::kInRoot : 0U) |
                   (at.no_links ? protocol::Target::kNoLinks : 0U);
    target.path_bytes = itself ? 0 : static_cast<std::uint32_t>(path.size());
    return target;
  }

  // A path that is still to be walked. One that left the instance goes on from its root where the
  // caller asked for that; else its rest is the caller's.
  struct Way {
    explicit Way(L at) : at(at), path(at.itself ? "" : at.path) {}
    Result<void> go_on(const std::string& rest) {
      if (at.outside != nullptr) {
        *at.outside = rest;
        return Errno{EXDEV};
      }
      if (++links > kMostLinks) return Errno{ELOOP};
      path = rest.front() == '/' ? rest : rest.substr(2);
      if (path.empty()) path = "/";
      from_root = true;
      return {};
    }
    L at;
    std::string path;
    bool from_root = false;
    int links = 0;
  };

  template <class Words>
  Result<Answered> at_one(C c, Operation operation, L at, Words words, std::string_view more = {}) {
    Way way(at);
    for (;;) {
      LIBSERVICES_TRY(words.target, target_of(c, at, way.path, way.from_root));
      LIBSERVICES_TRY(auto answer, on(session(c), operation, words, way.path + std::string(more)));
      if (!answer.outside) return answer;
      LIBSERVICES_CHECK_OK(way.go_on(answer.output));
    }
  }
  Result<void> at_two(C c, Operation operation, L from, L to, std::uint32_t mode) {
    Way ways[] = {Way(from), Way(to)};
    for (;;) {
      protocol::TwoTargetsRequest words;
      words.mode = mode;
      LIBSERVICES_TRY(words.from, target_of(c, from, ways[0].path, ways[0].from_root));
      LIBSERVICES_TRY(words.to, target_of(c, to, ways[1].path, ways[1].from_root));
      LIBSERVICES_TRY(auto answer, on(session(c), operation, words, ways[0].path + ways[1].path));
      if (!answer.outside) return {};
      LIBSERVICES_CHECK_OK(ways[answer.words[0]].go_on(answer.output));
    }
  }
  Result<std::size_t> xattr_read(C c, Operation operation, L at, std::string_view name,
                                 std::span<char> into) {
    LIBSERVICES_TRY(
        auto answer,
        at_one(c, operation, at,
               protocol::XattrRequest{{}, static_cast<std::uint32_t>(name.size()), 0, into.size()},
               name));
    if (!into.empty()) std::memcpy(into.data(), answer.output.data(), answer.output.size());
    return static_cast<std::size_t>(answer.words[0]);
  }

  std::string directory_;
  Catalog catalog_;
  std::unique_ptr<Host> host_;
  std::mutex mutex_;
  std::map<std::tuple<uid_t, gid_t, std::vector<gid_t>>, std::unique_ptr<BehindSession>>
      sessions_;  // guarded by mutex_
};

}  // namespace

std::unique_ptr<AnyFilesystem> make_behind_ipc() {
  // Sessions of other identities are made by taking them.
  if (::geteuid() != 0) return nullptr;
  return std::make_unique<BehindIpc>();
}

}  // namespace libservices::testing
