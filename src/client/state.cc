// SPDX-License-Identifier: Apache-2.0
#include "src/client/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "src/client/request.h"

namespace libservices::client {

constinit State state{};
constinit thread_local Outcome outcome{};

namespace {

constexpr std::uint32_t kMostRecords = 1U << 16U;
constexpr std::uint32_t kMostStock = 256;      // kept for the next open, each kind together
constexpr int kOwnDescriptors = 100;           // our descriptors begin this far below the limit
constexpr std::uint64_t kMostOwnLimit = 4096;  // or below this: the kernel's table stays 32 KiB
constexpr std::uint32_t kMostDescriptors = 1U << 20U;

// A placeholder that no open file uses now. 0: a free place; kBusy: being filled or emptied.
struct StockSlot {
  std::atomic<std::uint32_t> placeholder;
  std::uint32_t directory;
  int descriptor;
  std::uint64_t inode;
  std::uint32_t session;  // generation of the session that gave it: no other knows it
};
constexpr std::uint32_t kBusy = UINT32_MAX;
constexpr long kNoService = -4097;

OpenRecord* records;                     // kMostRecords of them, in memory that is zero at first
std::atomic<std::uint32_t> next_record;  // where to look for a free one
StockSlot stock[kMostStock]{};
std::uint32_t next_refill = 4;            // how many to ask for; under attach_lock
std::atomic<std::uint32_t> attach_lock;   // 1 while a thread talks on the socket
int own_limit;                            // descriptors from here on may be ours
std::atomic<std::uint64_t> own_bits[64];  // which of the 4096 from own_limit on are

void* reserve(std::size_t bytes) {
  const long address = raw::syscall(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return address < 0 && address > -4096 ? nullptr : reinterpret_cast<void*>(address);
}

void set_own(int descriptor, bool own) {
  const int bit = descriptor - own_limit;
  if (bit < 0 || bit >= 4096) return;
  const std::uint64_t mask = std::uint64_t{1} << (bit % 64);
  if (own) {
    own_bits[bit / 64].fetch_or(mask);
  } else {
    own_bits[bit / 64].fetch_and(~mask);
  }
}

// Moves a descriptor out of the application's way, to a high number.
int move_up(int descriptor) {
  const long moved = raw::syscall(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, own_limit);
  if (moved < 0) return descriptor;
  raw::syscall(SYS_close, descriptor);
  set_own(static_cast<int>(moved), true);
  return static_cast<int>(moved);
}

// The one lock of the library. Signals stay out while it is held, so a handler that opens a file
// in the thread that holds it cannot wait for itself.
class AttachLock {
 public:
  AttachLock() {
    const std::uint64_t all = ~std::uint64_t{0};
    raw::syscall(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, &all, &mask_, sizeof mask_);
    while (attach_lock.exchange(1, std::memory_order_acquire) != 0) {
      raw::syscall(SYS_sched_yield);
    }
  }
  ~AttachLock() {
    attach_lock.store(0, std::memory_order_release);
    raw::syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &mask_, nullptr, sizeof mask_);
  }
  AttachLock(const AttachLock&) = delete;
  AttachLock& operator=(const AttachLock&) = delete;

 private:
  std::uint64_t mask_ = 0;
};

bool keep_stock(const protocol::StockEntry& entry, int descriptor, std::uint32_t session) {
  for (StockSlot& slot : stock) {
    std::uint32_t free = 0;
    if (slot.placeholder.load(std::memory_order_relaxed) != 0 ||
        !slot.placeholder.compare_exchange_strong(free, kBusy, std::memory_order_acquire)) {
      continue;
    }
    slot.directory = entry.is_directory;
    slot.descriptor = descriptor;
    slot.inode = entry.inode;
    slot.session = session;
    slot.placeholder.store(entry.id, std::memory_order_release);
    return true;
  }
  return false;
}

// What another thread has in its hands meanwhile is told by its session.
void drop_stock() {
  for (StockSlot& slot : stock) {
    const std::uint32_t placeholder = slot.placeholder.exchange(kBusy, std::memory_order_acquire);
    if (placeholder == kBusy) continue;
    if (placeholder != 0) close_own(slot.descriptor);
    slot.placeholder.store(0, std::memory_order_release);
  }
}

// One question and its answer on the session's socket. REQUIRES: AttachLock.
template <class Question>
long ask(const Question& request, const int* send, unsigned send_count,
         protocol::SocketAnswer& answer, int* received, unsigned& received_count) {
  const iovec part{const_cast<Question*>(&request), sizeof request};
  const int socket = state.driver.socket();
  if (const long error = ipc::send_message(socket, &part, 1, send, send_count); error != 0) {
    return -EIO;
  }
  const long size = ipc::receive_message(socket, &answer, sizeof answer, received, received_count);
  if (size < static_cast<long>(offsetof(protocol::SocketAnswer, stock))) return -EIO;
  return -answer.error;
}

// Whether paths lead to the same instances by both.
bool are_alike(const protocol::MountTable& one, const protocol::MountTable& other) {
  return one.count == other.count &&
         __builtin_memcmp(one.slots, other.slots, sizeof one.slots) == 0;
}

// Maps the mount table that stands in the run directory now. One that was mapped before stays so:
// another thread may be reading it.
bool map_mounts() {
  char path[sizeof state.directory + 8];
  const std::size_t length = __builtin_strlen(state.directory);
  __builtin_memcpy(path, state.directory, length);
  __builtin_memcpy(path + length, "/mounts", 8);
  const long file = raw::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return false;
  const long mapped =
      raw::syscall(SYS_mmap, nullptr, sizeof(protocol::MountTable), PROT_READ, MAP_SHARED, file, 0);
  raw::syscall(SYS_close, file);
  if (mapped < 0 && mapped > -4096) return false;
  const auto* const table = reinterpret_cast<const protocol::MountTable*>(mapped);
  if (table->magic != protocol::kMountTableMagic ||
      table->version != protocol::kMountTableVersion) {
    raw::syscall(SYS_munmap, mapped, sizeof(protocol::MountTable));
    return false;
  }
  state.mount_table.store(table, std::memory_order_release);
  return true;
}

// From here until there is a session, requests do not begin. REQUIRES: AttachLock.
void begin_change() {
  const std::uint32_t now = state.session.load();
  if (now % 2 == 0) state.session.store(now + 1);
}

// kNoService: nobody listens there.
long attach_locked() {
  if (state.driver.attached()) return 0;
  begin_change();
  char path[sizeof state.directory + 8];
  const std::size_t length = __builtin_strlen(state.directory);
  __builtin_memcpy(path, state.directory, length);
  __builtin_memcpy(path + length, "/socket", 8);
  protocol::Welcome welcome;
  std::size_t welcome_bytes = 0;
  int descriptors[protocol::kFirstStock];
  unsigned count = sizeof descriptors / sizeof *descriptors;
  const long error =
      state.driver.attach(path, &welcome, sizeof welcome, welcome_bytes, descriptors, count);
  if (error != 0) {
    // The last two: it was killed before it answered.
    const bool nobody =
        error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -EPIPE;
    return nobody ? kNoService : error;
  }
  state.gave_up.store(0, std::memory_order_relaxed);
  const protocol::MountTable& before = mounts();
  const bool other_table = welcome.mount_table != before.number;
  const bool mapped = !other_table || map_mounts();
  state.driver.set_socket(move_up(state.driver.socket()));
  const std::uint32_t session = state.session.load() + 1;  // even
  for (unsigned i = 0; i < count; ++i) {
    const int own = move_up(descriptors[i]);
    if (i >= welcome.stock_count || !keep_stock(welcome.stock[i], own, session)) close_own(own);
  }
  state.session.store(session);
  // Who asks now has found an instance in the table of another service.
  return mapped && (!other_table || are_alike(before, mounts())) ? 0 : -ESTALE;
}

// Nothing of the session can be used any more: its service is gone. REQUIRES: AttachLock.
void lose_session_locked() {
  if (!state.driver.attached()) return;
  begin_change();
  const std::uint32_t used = next_record.load();
  for (std::uint32_t i = 0; i < used; ++i) {
    OpenRecord& record = records[i];
    if (record.descriptors.load() == 0) continue;
    // The next service does not know the placeholder as ours alone. Its stock descriptor stays
    // until the record's end: another thread may be duplicating it.
    record.exclusive.store(0);
    record.listed.store(0);
  }
  close_own(state.driver.socket());
  state.driver.set_socket(-1);
  state.driver.leave_mapped();  // other threads have buffers of it
  drop_stock();
  state.lost.store(1);
}

// `talk` on the socket of a session, which is made if need be, and made anew if its service dies.
template <class Talk>
long in_session(Talk&& talk) {
  constexpr int kMostTalks = 100;  // services may die one after the other
  for (int talks = 0;;) {
    if (const long error = attach(); error != 0) return error;
    AttachLock lock;
    if (!state.driver.attached()) continue;  // lost meanwhile
    const long error = talk();
    if (error != -EIO) return error;
    lose_session_locked();
    if (++talks == kMostTalks) return error;
  }
}

long adopt(OpenRecord& record, int descriptor) {
  protocol::SocketAnswer answer;
  const long error = in_session([&] {
    unsigned none = 0;
    const protocol::SocketRequest request{protocol::SocketRequestType::kAdopt, 1, 0, 0};
    if (const long failed = ask(request, &descriptor, 1, answer, nullptr, none); failed != 0) {
      return failed;
    }
    if (answer.count != 1) return long{-EIO};
    const protocol::Adopted& adopted = answer.adopted[0];
    if (adopted.handle == 0) return long{0};
    if (const auto earlier = record.handle.load(); earlier != 0) {
      record.earlier_handle.store(earlier);
    }
    record.exclusive.store(0);  // this service did not give us its placeholder
    record.instance = adopted.instance;
    record.flags = adopted.flags;
    record.mode = adopted.mode;
    record.session.store(state.session.load(), std::memory_order_relaxed);
    record.handle.store(adopted.handle, std::memory_order_release);
    return long{0};
  });
  if (error != 0 || answer.adopted[0].handle != 0) return error;
  // What a dead service had open is lost if the next one does not know it.
  return answer.adopted[0].error == EBADF && state.lost.load() == 0 ? -EBADF : -EIO;
}

OpenRecord* record_of_inode(std::uint64_t inode) {
  const std::uint32_t used = next_record.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < used && i < kMostRecords; ++i) {
    if (records[i].descriptors.load(std::memory_order_relaxed) != 0 && records[i].inode == inode) {
      return &records[i];
    }
  }
  return nullptr;
}

// False when it is no open descriptor. A placeholder becomes one of ours.
bool adopt_if_placeholder(int descriptor) {
  struct stat status;
  if (raw::syscall(SYS_newfstatat, descriptor, "", &status, AT_EMPTY_PATH) != 0) return false;
  if (status.st_dev != mounts().placeholder_device || status.st_nlink != 0 ||
      !S_ISSOCK(status.st_mode) ||
      static_cast<std::uint32_t>(descriptor) >= state.most_descriptors) {
    return true;
  }
  OpenRecord* record = record_of_inode(status.st_ino);
  if (record != nullptr) {
    record->descriptors.fetch_add(1);
    share(*record);
  } else {
    record = new_record();
    if (record == nullptr) return true;
    record->exclusive.store(0);
    record->handle.store(0);
    record->placeholder = protocol::kNone;
    record->stock_descriptor = -1;
    record->inode = status.st_ino;
  }
  state.files[descriptor].store(record, std::memory_order_release);
  return true;
}

// The same for all descriptors from `first` on, by the kernel's list of them.
void adopt_listed(int first) {
  const long directory =
      raw::syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (directory < 0) return;
  alignas(8) char entries[2048];
  for (;;) {
    const long size = raw::syscall(SYS_getdents64, directory, entries, sizeof entries);
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      const char* entry = entries + at;
      std::uint16_t length = 0;
      __builtin_memcpy(&length, entry + 16, sizeof length);
      at += length;
      int descriptor = 0;
      const char* digit = entry + 19;
      if (*digit < '0' || *digit > '9') continue;
      while (*digit != '\0') descriptor = descriptor * 10 + (*digit++ - '0');
      if (descriptor >= first && descriptor != directory) adopt_if_placeholder(descriptor);
    }
  }
  raw::syscall(SYS_close, directory);
}

}  // namespace

void start(const char* run_directory) {
  const std::size_t length = __builtin_strlen(run_directory);
  if (length == 0 || length >= sizeof state.directory) return;
  __builtin_memcpy(state.directory, run_directory, length + 1);
  if (!map_mounts()) return;
  rlimit limit{};
  raw::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  const std::uint64_t most = limit.rlim_max < kMostDescriptors ? limit.rlim_max : kMostDescriptors;
  const std::uint64_t now = limit.rlim_cur < most ? limit.rlim_cur : most;
  own_limit = static_cast<int>(now < kMostOwnLimit ? now : kMostOwnLimit) - kOwnDescriptors;
  if (own_limit < 64) own_limit = static_cast<int>(now) / 2;
  state.most_descriptors = static_cast<std::uint32_t>(most);
  state.files = static_cast<std::atomic<OpenRecord*>*>(reserve(most * sizeof(void*)));
  records = static_cast<OpenRecord*>(reserve(kMostRecords * sizeof(OpenRecord)));
  state.active = state.files != nullptr && records != nullptr;
}

// Taken and checked when it is first needed: most processes never copy much.
const ipc::CopyTable& copies() {
  static constinit ipc::CopyTable adopted{};
  static constinit ipc::CopyTable plain{};               // libc's, for who comes meanwhile
  static constinit std::atomic<std::uint32_t> ready{0};  // 2: it is adopted
  if (ready.load(std::memory_order_acquire) != 2) {
    const ipc::CopyTable checked = ipc::adopt_table(mounts().copies);
    std::uint32_t nobody = 0;
    if (!ready.compare_exchange_strong(nobody, 1)) return plain;
    adopted = checked;
    ready.store(2, std::memory_order_release);
  }
  return adopted;
}

int keep_copy(int descriptor) {
  const long copy = raw::syscall(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, own_limit);
  if (copy >= 0) set_own(static_cast<int>(copy), true);
  return static_cast<int>(copy);
}

void close_copy(int copy) { close_own(copy); }

bool is_own_descriptor(int descriptor) {
  const int bit = descriptor - own_limit;
  if (!state.active || bit < 0 || bit >= 4096) return false;
  return (own_bits[bit / 64].load(std::memory_order_relaxed) >> (bit % 64) & 1U) != 0;
}

bool any_records() {
  const std::uint32_t used = next_record.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < used; ++i) {
    if (records[i].descriptors.load(std::memory_order_relaxed) != 0) return true;
  }
  return false;
}

OpenRecord* new_record() {
  for (std::uint32_t tries = 0; tries < 2 * kMostRecords; ++tries) {
    const std::uint32_t used = next_record.load(std::memory_order_relaxed);
    // The first free one below the mark, else one more.
    for (std::uint32_t i = 0; i < used; ++i) {
      std::uint32_t free = 0;
      if (records[i].descriptors.load(std::memory_order_relaxed) == 0 &&
          records[i].descriptors.compare_exchange_strong(free, 1, std::memory_order_acquire)) {
        return &records[i];
      }
    }
    std::uint32_t mark = used;
    if (used == kMostRecords) return nullptr;
    next_record.compare_exchange_strong(mark, used + 1);
  }
  return nullptr;
}

long attach() {
  constexpr std::uint32_t kAskEveryMs = 5;
  for (std::uint32_t waited = 0;; waited += kAskEveryMs) {
    if (state.driver.attached()) return 0;
    {
      AttachLock lock;
      if (const long error = attach_locked(); error != kNoService) return error;
    }
    let_signals_in();
    if (waited >= mounts().restart_wait_ms.load() || state.gave_up.load() != 0) {
      state.gave_up.store(1);
      return -EIO;
    }
    const timespec pause{0, kAskEveryMs * 1'000'000};
    raw::syscall(SYS_nanosleep, &pause, nullptr);
  }
}

long take_stock(bool directory, Stock& taken) {
  for (int tries = 0; tries < 3; ++tries) {
    for (StockSlot& slot : stock) {
      std::uint32_t placeholder = slot.placeholder.load(std::memory_order_relaxed);
      if (placeholder == 0 || placeholder == kBusy ||
          !slot.placeholder.compare_exchange_strong(placeholder, kBusy,
                                                    std::memory_order_acquire)) {
        continue;
      }
      if (const std::uint32_t session = state.session.load();
          session % 2 == 0 && slot.session != session) {
        close_own(slot.descriptor);
        slot.placeholder.store(0, std::memory_order_release);
        continue;
      }
      if ((slot.directory != 0) != directory) {
        slot.placeholder.store(placeholder, std::memory_order_release);
        continue;
      }
      taken = {placeholder, slot.descriptor, slot.inode, slot.session};
      slot.placeholder.store(0, std::memory_order_release);
      return 0;
    }
    const long error = in_session([&] {
      protocol::SocketAnswer answer;
      int received[protocol::kStockRefill];
      unsigned count = protocol::kStockRefill;
      const std::uint32_t wanted = directory ? 1U : next_refill;
      if (!directory && next_refill < protocol::kStockRefill) next_refill *= 2;
      const protocol::SocketRequest request{protocol::SocketRequestType::kStock, wanted,
                                            directory ? 1U : 0U, 0};
      if (const long failed = ask(request, nullptr, 0, answer, received, count); failed != 0) {
        return failed;
      }
      for (unsigned i = 0; i < count; ++i) {
        const int own = move_up(received[i]);
        if (i >= answer.count || !keep_stock(answer.stock[i], own, state.session.load())) {
          close_own(own);
        }
      }
      return long{0};
    });
    if (error != 0) return error;
  }
  return -EMFILE;
}

long take_mapped(std::uint32_t session, std::uint32_t number) {
  AttachLock lock;
  if (!state.driver.attached() || state.session.load() != session) return -ESTALE;
  protocol::SocketAnswer answer;
  int received = -1;
  unsigned count = 1;
  const protocol::SocketRequest request{protocol::SocketRequestType::kMapped, 0, 0, number};
  const long error = ask(request, nullptr, 0, answer, &received, count);
  if (error == -EIO) {
    lose_session_locked();
    return -ESTALE;
  }
  if (error != 0) return error;
  return count == 1 ? received : -ENFILE;  // no number was free for it
}

void give_back_stock(bool directory, const Stock& given) {
  const protocol::StockEntry entry{given.placeholder, directory ? 1U : 0U, given.inode};
  if (given.session != state.session.load() ||
      !keep_stock(entry, given.descriptor, given.session)) {
    close_own(given.descriptor);
  }
}

void close_own(int descriptor) {
  if (descriptor < 0) return;
  set_own(descriptor, false);
  raw::syscall(SYS_close, descriptor);
}

long ask_for_object(const protocol::ObjectRequest& request, int send) {
  long own = 0;
  const long error = in_session([&] {
    protocol::SocketAnswer answer;
    int received = -1;
    unsigned count = 1;
    const long failed = ask(request, &send, send >= 0 ? 1 : 0, answer, &received, count);
    if (failed == 0 && count == 1) own = move_up(received);
    own = failed != 0 && answer.error != 0 ? -answer.error : own;
    return own < 0 ? 0 : failed;  // the service's own EIO is not its end
  });
  return error != 0 ? error : own;
}

long handle_of(OpenRecord& record, int descriptor, protocol::Handle& handle) {
  handle = record.handle.load(std::memory_order_acquire);
  if (handle != 0 && record.session.load(std::memory_order_relaxed) ==
                         state.session.load(std::memory_order_relaxed)) {
    return 0;
  }
  int opened = -1;
  if (descriptor < 0) {  // the working directory: the kernel's is its placeholder
    opened = static_cast<int>(
        raw::syscall(SYS_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    if (opened < 0) return opened;
    descriptor = opened;
  }
  const long error = adopt(record, descriptor);
  if (opened >= 0) raw::syscall(SYS_close, opened);
  handle = record.handle.load(std::memory_order_acquire);
  return error;
}

long release(OpenRecord& record) {
  if (record.descriptors.load(std::memory_order_acquire) != 1) {
    std::uint32_t count = record.descriptors.load();
    while (count > 1) {
      if (record.descriptors.compare_exchange_weak(count, count - 1)) return 0;
    }
  }
  // The last: nobody else of this process uses the record now.
  const bool exclusive = record.exclusive.load() != 0;
  long result = 0;
  const protocol::Handle handle = record.handle.load();
  bool ended = false;
  if (handle != 0 && record.session.load() == state.session.load() && state.driver.attached()) {
    Request request(protocol::Operation::kClose, record.instance);
    // It may have waited for a buffer until its service was gone.
    if (request.ok() && request.session() == record.session.load()) {
      request.set(protocol::CloseRequest{handle, exclusive ? 1U : 0U});
      result = request.run();
      if (request.session() != state.session.load()) result = 0;  // it ended with its service
      ended = exclusive && result != -EIO && result != -ETIMEDOUT && request.session() == state.session.load() &&
              (result != 0 || request.answer<protocol::CloseAnswer>().held == 0);
      // Shared, and the last anywhere: the kernel may have told the service before us.
      if (!exclusive && result == -EBADF) result = 0;
    }
  }
  if (record.stock_descriptor >= 0) {
    const Stock back{record.placeholder, record.stock_descriptor, record.inode,
                     record.session.load()};
    if (ended) {
      give_back_stock(record.removed_directory, back);
    } else {
      close_own(record.stock_descriptor);
    }
  }
  record.handle.store(0);
  record.exclusive.store(0);
  record.listed.store(0);
  record.stock_descriptor = -1;
  record.removed_directory = false;
  record.inode = 0;
  record.descriptors.store(0, std::memory_order_release);
  return result;
}

void share(OpenRecord& record) { record.exclusive.store(0, std::memory_order_relaxed); }

void share_all() {
  if (!state.active) return;
  const std::uint32_t used = next_record.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < used; ++i) share(records[i]);
}

void after_fork_in_child() {
  if (!state.active) return;
  attach_lock.store(0);
  state.gave_up.store(0);
  // The parent's session: its memory is not mapped here, and its socket is closed here.
  close_own(state.driver.socket());
  state.driver.abandon();
  drop_stock();
  begin_change();
  const std::uint32_t used = next_record.load();
  for (std::uint32_t i = 0; i < used; ++i) {
    OpenRecord& record = records[i];
    if (record.descriptors.load() == 0) continue;
    close_own(record.stock_descriptor);
    record.stock_descriptor = -1;
    record.exclusive.store(0);
    record.handle.store(0);
    record.earlier_handle.store(0);
  }
}

void forget_session() {
  if (!state.active || !state.driver.attached()) return;
  AttachLock lock;
  share_all();
  begin_change();
  // Nobody begins a request now (see Request), and those under way end before their memory goes.
  const timespec pause{0, 100'000};
  constexpr int kMostPauses = 20'000;  // 2 s: a signal handler may have interrupted a request
  for (int i = 0; i < kMostPauses && state.driver.has_taken_buffers(); ++i) {
    raw::syscall(SYS_nanosleep, &pause, nullptr);
  }
  close_own(state.driver.socket());
  state.driver.set_socket(-1);
  if (state.driver.has_taken_buffers()) {
    state.driver.leave_mapped();
  } else {
    state.driver.detach();
  }
  drop_stock();
}

void adopt_received(int descriptor) {
  if (state.active && descriptor >= 0) adopt_if_placeholder(descriptor);
}

void adopt_inherited() {
  if (!state.active) return;
  // Most have a few, by the first numbers. Since Linux 6.2 the kernel tells how many there are, in
  // half the time that it takes to list them.
  constexpr int kFirst = 32;
  struct stat all;
  const bool told = raw::syscall(SYS_newfstatat, AT_FDCWD, "/proc/self/fd", &all, 0) == 0 &&
                    all.st_size > 0 && all.st_size <= kFirst;
  long left = told ? all.st_size : kFirst;
  int next = 0;
  for (; told && left > 0 && next < kFirst; ++next) {
    if (adopt_if_placeholder(next)) --left;
  }
  if (left > 0) adopt_listed(next);
  // A working directory in a mount is a removed directory.
  struct stat status;
  if (raw::syscall(SYS_newfstatat, AT_FDCWD, ".", &status, 0) != 0 || status.st_nlink != 0 ||
      status.st_dev != mounts().placeholder_device) {
    return;
  }
  OpenRecord* record = new_record();
  if (record == nullptr) return;
  record->exclusive.store(0);
  record->handle.store(0);
  record->placeholder = protocol::kNone;
  record->stock_descriptor = -1;
  record->inode = status.st_ino;
  record->flags = O_PATH | O_DIRECTORY;
  record->mode = S_IFDIR;
  state.working_directory.store(record);
}

void lose_session(std::uint32_t session) {
  AttachLock lock;
  if (state.session.load() == session) lose_session_locked();
}

bool renew(protocol::Handle& handle) {
  if (handle == protocol::kRoot) return true;
  const std::uint32_t used = next_record.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < used; ++i) {
    OpenRecord& record = records[i];
    if (record.descriptors.load() == 0) continue;
    const bool current = record.handle.load() == handle;
    if (!current && record.earlier_handle.load() != handle) continue;
    if (current && record.session.load() == state.session.load()) return true;
    int descriptor = -1;  // stays so for the working directory
    for (std::uint32_t at = 0; at < state.most_descriptors; ++at) {
      if (state.files[at].load(std::memory_order_relaxed) == &record) {
        descriptor = static_cast<int>(at);
        break;
      }
    }
    if (descriptor < 0 && state.working_directory.load() != &record) return false;
    return handle_of(record, descriptor, handle) == 0;
  }
  return false;
}

}  // namespace libservices::client
