// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/session.h"

#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <utility>

#include "src/fuse/request.h"

namespace libservices::fuse {
namespace {

// A program or a library: somebody who changes one makes it anew, and whoever runs the old one
// shall go on with that.
bool is_program(int descriptor) {
  char magic[SELFMAG];
  return ::pread(descriptor, magic, sizeof magic, 0) == sizeof magic &&
         std::memcmp(magic, ELFMAG, SELFMAG) == 0;
}

}  // namespace

thread_local Session* Session::serving_ = nullptr;

Session::Session(AnyFilesystem& filesystem, Options options)
    : filesystem_(filesystem),
      options_(options),
      coherence_(filesystem.coherence()),
      locks_(filesystem) {
  auto root = filesystem_.refer(Context{}, Location("/"));
  if (root.ok()) nodes_.add(*root);  // never forgotten: the kernel counts no lookup of it
  filesystem_.set_listener(this);
}

Session::~Session() {
  filesystem_.set_listener(nullptr);
  end();
}

void Session::run(const Message& message, std::span<std::byte> room, Reply& reply) noexcept {
  requests_[message.header.opcode].fetch_add(1, std::memory_order_relaxed);
  Session* const before = std::exchange(serving_, this);
  Result<void> done;
  try {
    done = Run(*this, message, room, reply).run();
  } catch (const std::bad_alloc&) {
    done = Errno{ENOMEM};
  } catch (...) {
    done = Errno{EIO};
  }
  serving_ = before;
  if (!done.ok()) {
    errors_.fetch_add(1, std::memory_order_relaxed);
    undo(reply);
    reply.told.clear();
    reply.handle = 0;
    reply.error = done.error().value;
    reply.fixed_bytes = 0;
    reply.payload = {};
    reply.from_file = {};
  }
}

void Session::set_negotiated(std::uint32_t minor) {
  std::lock_guard lock(negotiation_mutex_);
  minor_.store(minor, std::memory_order_relaxed);
  negotiated_.notify_all();
}
bool Session::wait_until_negotiated(std::chrono::milliseconds most) {
  std::unique_lock lock(negotiation_mutex_);
  return negotiated_.wait_for(lock, most, [this] { return minor_.load() != 0; });
}

void Session::undo(const Reply& reply) {
  for (const std::uint64_t node : reply.told) nodes_.forget(node, 1);
  if (reply.handle == 0) return;
  if (const HandlePtr open = handles_.remove(reply.handle)) (void)close(Context{}, open);
}

// What the file could pass through to.
std::optional<Passthrough::Offer> Session::offer(const Context& context, OpenFile& file) {
  const auto none = std::optional<Passthrough::Offer>();
  if (carrier_ == nullptr || !may_pass_.load(std::memory_order_relaxed)) return none;
  const auto now = filesystem_.stat(context, Location(file));
  // A writer shall take set-id bits away, which it does not if it passes through.
  if (!now.ok() || (now->mode & (S_ISUID | S_ISGID)) != 0) return none;
  const auto backing = filesystem_.backing(context, file);
  if (!backing.ok()) return none;
  if (backing->until_changed && !is_program(backing->descriptor)) return none;
  struct stat seen {};
  if (::fstat(backing->descriptor, &seen) != 0) return none;
  return Passthrough::Offer{backing->descriptor, seen.st_dev, seen.st_ino, backing->until_changed};
}

// The number of the descriptor at the kernel; 0: it does not take it.
std::int32_t Session::announce(int descriptor) {
  const std::int32_t number = carrier_->announce(descriptor);
  if (number > 0) return number;
  if (number == -EPERM) may_pass_.store(false, std::memory_order_relaxed);  // without privilege
  return 0;
}

void Session::withdraw(std::uint64_t node, Passthrough::Way way) {
  const std::int32_t number = passthrough_.close(node, way);
  if (number > 0 && carrier_ != nullptr) carrier_->withdraw(number);
}

Result<void> Session::close(const Context& context, const HandlePtr& open) {
  withdraw(open->node, open->way);
  if (open.use_count() > 1) {
    open->closer = &filesystem_;
    return {};
  }
  return filesystem_.close(context, std::move(open->file));
}

void Session::end() {
  locks_.end();
  for (const HandlePtr& open : handles_.remove_all()) {
    if (open != nullptr) (void)close(Context{}, open);
  }
  nodes_.clear();
}

Session::Counts Session::counts() const {
  Counts counts;
  for (std::size_t i = 0; i < kForms; ++i) {
    counts.requests[i] = requests_[i].load(std::memory_order_relaxed);
  }
  counts.errors = errors_.load(std::memory_order_relaxed);
  counts.notices = notices_.load(std::memory_order_relaxed);
  counts.nodes = nodes_.size();
  counts.handles = handles_.size();
  counts.minor = minor_.load(std::memory_order_relaxed);
  counts.passthrough = may_pass_.load(std::memory_order_relaxed);
  counts.passing = passthrough_.passing();
  return counts;
}

// What this thread has changed since it last delivered.
struct Session::Notes {
  std::vector<Notice> of_thread;

  static Notes& here() {
    static thread_local Notes notes;
    return notes;
  }
};

// The inode that the kernel has under this id cannot follow a change: its attributes are asked for
// each time from now on, and who opens it is sent to look its name up again.
void Session::leave_inode(std::uint64_t node) {
  if (nodes_.renew(node)) send({this, 0, 0, 0, {}}, node);
}

void Session::object_changed(std::uint64_t object, std::uint64_t offset, std::uint64_t length) {
  if (length != 0) {
    for (const std::uint64_t node : nodes_.ids_of(object)) {
      if (passthrough_.passes_until_changed(node)) leave_inode(node);
    }
  }
  note({this, object, offset, length, {}});
}
void Session::name_changed(std::uint64_t directory, std::string_view name) {
  note({this, directory, 0, 0, std::string(name)});
}
void Session::note(Notice notice) {
  // The kernel knows what it has asked for itself.
  if (serving_ == this || nodes_.ids_of(notice.object).empty()) return;
  Notes::here().of_thread.push_back(std::move(notice));
}

void Session::deliver_notices() {
  std::vector<Notice>& notes = Notes::here().of_thread;
  if (notes.empty()) return;
  for (const Notice& notice : notes) notice.session->send(notice);
  notes.clear();
}

void Session::forget_answers() {
  if (carrier_ == nullptr) return;
  // Names. A kernel that does not know this finds out by ESTALE which ones have gone.
  (void)carrier_->notify(abi::kNotifyIncEpoch, {}, {});
  for (const std::uint64_t node : nodes_.ids()) send({this, 0, 0, UINT64_MAX, {}}, node);
}

void Session::send(const Notice& notice) {
  if (carrier_ == nullptr) return;
  for (const std::uint64_t node : nodes_.ids_of(notice.object)) send(notice, node);
}

void Session::send(const Notice& notice, std::uint64_t node) {
  notices_.fetch_add(1, std::memory_order_relaxed);
  if (!notice.name.empty()) {
    fuse_notify_inval_entry_out out{};
    out.parent = node;
    out.namelen = static_cast<std::uint32_t>(notice.name.size());
    (void)carrier_->notify(FUSE_NOTIFY_INVAL_ENTRY, std::as_bytes(std::span(&out, 1)), notice.name);
    return;
  }
  fuse_notify_inval_inode_out out{};
  out.ino = node;
  out.off = notice.length == 0 ? -1 : static_cast<std::int64_t>(notice.offset);
  const bool to_the_end = notice.length > static_cast<std::uint64_t>(INT64_MAX);
  out.len = to_the_end ? 0 : static_cast<std::int64_t>(notice.length);
  (void)carrier_->notify(FUSE_NOTIFY_INVAL_INODE, std::as_bytes(std::span(&out, 1)), {});
}

}  // namespace libservices::fuse
