// SPDX-License-Identifier: Apache-2.0
#include "src/host/watches.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "src/host/error_status.h"
#include "src/host/inotify_users.h"
#include "src/host/object_files.h"

namespace libservices::host {
namespace {

// In the directory: the shadows; for each the path of its object, as a link; and where what moves
// comes from, or goes to, on the side that nobody watches.
constexpr const char* kShadows = "shadows";
constexpr const char* kPaths = "paths";
constexpr const char* kAside = "aside";

constexpr std::size_t kMostShadows = 65536;
constexpr std::size_t kMostHeld = 4096;

// That the object itself was moved is told by moving its shadow: from a name to this name and back.
constexpr char kMovedMark = '+';
std::string bare(std::string name) {
  if (name.ends_with(kMovedMark)) name.pop_back();
  return name;
}

std::string in_shadows(std::string_view name) { return fmt::format("{}/{}", kShadows, name); }
std::string in_paths(std::string_view name) { return fmt::format("{}/{}", kPaths, name); }

std::vector<std::string> names_in(int directory, const char* path) {
  std::vector<std::string> names;
  const int listed = ::openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  DIR* const listing = listed < 0 ? nullptr : ::fdopendir(listed);
  if (listing == nullptr) {
    if (listed >= 0) ::close(listed);
    return names;
  }
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(listing);
  return names;
}

// What is empty is not looked into: that would be told, too.
void remove_tree(int directory, const std::string& path) {
  if (::unlinkat(directory, path.c_str(), 0) == 0 || errno != EISDIR ||
      ::unlinkat(directory, path.c_str(), AT_REMOVEDIR) == 0) {
    return;
  }
  const Descriptor below(
      ::openat(directory, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (below.ok()) empty_directory(below.get());
  ::unlinkat(directory, path.c_str(), AT_REMOVEDIR);
}

}  // namespace

// Of one instance.
class Watches::Listener final : public EventListener {
 public:
  Listener(Watches& watches, std::uint32_t instance) : watches_(watches), instance_(instance) {}

  void happened(FileEvent event, const Place& place) override {
    watches_.happened({instance_, place.object}, event, place);
  }
  void opened(const OpenFile& file, const Place& place) override {
    watches_.opened({instance_, place.object}, file, place);
  }
  void closed(const OpenFile& file, std::span<const Place> places) override {
    watches_.closed(instance_, file, places);
  }
  void renamed(const Place* from, const Place* to, bool exchange) override {
    watches_.renamed(instance_, from, to, exchange);
  }
  void moved(std::uint64_t object) override { watches_.moved({instance_, object}); }
  void removed(std::uint64_t object) override { watches_.removed({instance_, object}); }

 private:
  Watches& watches_;
  const std::uint32_t instance_;
};

Watches::Watches(const FilesystemTable& filesystems, std::string directory, Options options)
    : filesystems_(filesystems), directory_(std::move(directory)), options_(options) {}

Watches::~Watches() = default;

absl::Status Watches::start() {
  ::mkdir(directory_.c_str(), 0700);
  opened_ = open_confined(directory_);
  for (const char* name : {kShadows, kPaths}) {
    if (opened_.ok() && ::mkdirat(opened_.get(), name, 0700) != 0 && errno != EEXIST) {
      opened_.reset();
    }
  }
  if (!opened_.ok()) {
    return error_status(errno,
                        fmt::format("{}: cannot make the directory: {} (check who may write there)",
                                    directory_, std::strerror(errno)));
  }
  for (std::uint32_t i = 0; i < filesystems_.size(); ++i) {
    listeners_.push_back(std::make_unique<Listener>(*this, i));
    filesystems_[i].filesystem->set_event_listener(listeners_.back().get());
  }
  return absl::OkStatus();
}

void Watches::adopt() {
  const Context all;
  const std::lock_guard making(making_);
  for (const std::string& name : names_in(opened_.get(), kShadows)) {
    char path[PATH_MAX];
    const ssize_t bytes =
        ::readlinkat(opened_.get(), in_paths(bare(name)).c_str(), path, sizeof path);
    for (std::uint32_t i = 0; bytes > 0 && i < filesystems_.size(); ++i) {
      AnyFilesystem& filesystem = *filesystems_[i].filesystem;
      const std::string_view known(path, static_cast<std::size_t>(bytes));
      bool found = false;
      for (const Follow follow : {Follow::kYes, Follow::kNo}) {
        const auto object = filesystem.refer(all, Location(known, follow));
        if (!object.ok() || object_name(filesystems_[i].path, object->attributes) != bare(name)) {
          continue;
        }
        found = begin({i, object->object}, name, std::string(known), *object).ok();
        break;
      }
      if (found) break;
    }
  }
  const std::lock_guard lock(mutex_);
  due_ = due_ || !shadows_.empty();
}

void Watches::stop() {
  absl::flat_hash_map<Key, Shadow> shadows;
  absl::flat_hash_map<const OpenFile*, std::vector<Held>> held;
  std::vector<OpenFilePtr> released;
  {
    const std::lock_guard making(making_);
    const std::lock_guard lock(mutex_);
    shadows.swap(shadows_);
    held.swap(held_);
    released.swap(released_);
  }
  for (const auto& [key, shadow] : shadows) {
    filesystems_[key.first].filesystem->unwatch(*shadow.file);
  }
}

void Watches::remove() {
  if (!opened_.ok()) {
    opened_ = open_confined(directory_);
    if (!opened_.ok()) return;
  }
  sweep(Clock::duration::zero());
  for (const char* name : {kShadows, kPaths}) ::unlinkat(opened_.get(), name, AT_REMOVEDIR);
  ::rmdir(directory_.c_str());
  opened_.reset();
}

Result<Descriptor> Watches::descriptor_of(const std::string& name) const {
  Descriptor found(
      ::openat(opened_.get(), in_shadows(name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found.ok()) return last_errno();
  return found;
}

// The name that it has, if an earlier service has made it.
std::string Watches::find_name(const std::string& bare) const {
  std::string moved = bare + kMovedMark;
  return ::faccessat(opened_.get(), in_shadows(moved).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0
             ? moved
             : bare;
}

void Watches::write_path(const Shadow& shadow) const {
  const std::string link = in_paths(bare(shadow.name));
  ::unlinkat(opened_.get(), link.c_str(), 0);
  if (!shadow.path.empty()) (void)!::symlinkat(shadow.path.c_str(), opened_.get(), link.c_str());
}

Result<Descriptor> Watches::watch(const Context& context, const ServiceOpenFile& file) {
  AnyFilesystem& filesystem = file.filesystem();
  const Location location = Location::object_of(file.file());
  LIBSERVICES_CHECK_OK(filesystem.access(context, location, R_OK));
  std::vector<OpenFilePtr> released;
  const std::lock_guard making(making_);
  const Context all;
  LIBSERVICES_TRY(const Reference object, filesystem.refer(all, location));
  const Key key{file.instance(), object.object};
  {
    const std::lock_guard lock(mutex_);
    released.swap(released_);
    if (const auto known = shadows_.find(key); known != shadows_.end()) {
      known->second.given = Clock::now();
      return descriptor_of(known->second.name);
    }
    if (shadows_.size() >= kMostShadows) return Errno{ENOSPC};
  }
  const std::string name =
      find_name(object_name(filesystems_[file.instance()].path, object.attributes));
  const std::string path = file.kept_path();
  LIBSERVICES_CHECK_OK(begin(key, name, path, object));
  // The tree learns where the object is, if it is no directory.
  if (!path.empty()) (void)filesystem.stat(all, Location(path));
  return descriptor_of(name);
}

// REQUIRES: making_.
Result<void> Watches::begin(const Key& key, std::string name, std::string path,
                            const Reference& object) {
  const bool is_directory = object.attributes.is_directory();
  const std::string shadow_path = in_shadows(name);
  if (!make(shadow_path, is_directory)) return last_errno();
  {
    const std::lock_guard lock(mutex_);
    Shadow& shadow = shadows_[key];
    shadow.name = std::move(name);
    shadow.path = std::move(path);
    shadow.file = object.file;
    shadow.given = Clock::now();
    if (is_directory) {
      for (std::string& old : names_in(opened_.get(), shadow_path.c_str())) {
        shadow.stale.insert(std::move(old));
      }
    }
    write_path(shadow);
  }
  Errno failed{0};
  const Result<void> listed = filesystems_[key.first].filesystem->watch(
      Context{}, *object.file, [&](const DirEntry& entry) {
        const std::lock_guard lock(mutex_);
        if (const auto now = shadows_.find(key); now != shadows_.end()) {
          now->second.stale.erase(std::string(entry.name));
        }
        const bool made = make(fmt::format("{}/{}", shadow_path, entry.name), entry.type == DT_DIR);
        if (!made) failed = last_errno();
        return made;
      });
  if (listed.ok() && failed == Errno{0}) {
    const std::lock_guard lock(mutex_);
    const auto now = shadows_.find(key);
    if (now == shadows_.end()) return {};  // removed meanwhile
    for (const std::string& gone : now->second.stale) {
      remove_tree(opened_.get(), fmt::format("{}/{}", shadow_path, gone));
    }
    now->second.stale.clear();
    return {};
  }
  end(key);
  return listed.ok() ? failed : listed.error();
}

// The object is watched no more. REQUIRES: making_.
void Watches::end(const Key& key) {
  Shadow shadow;
  {
    const std::lock_guard lock(mutex_);
    const auto ended = shadows_.find(key);
    if (ended == shadows_.end()) return;
    shadow = std::move(ended->second);
    shadows_.erase(ended);
    for (auto& [file, held] : held_) {
      std::erase_if(held, [&key](const Held& one) { return one.shadow == key; });
    }
    absl::erase_if(held_, [](const auto& held) { return held.second.empty(); });
  }
  filesystems_[key.first].filesystem->unwatch(*shadow.file);
  remove_tree(opened_.get(), in_shadows(shadow.name));
  ::unlinkat(opened_.get(), in_paths(bare(shadow.name)).c_str(), 0);
}

void Watches::renamed(std::string_view mount, std::string_view from, std::string_view to) {
  const std::lock_guard lock(mutex_);
  for (auto& [key, shadow] : shadows_) {
    if (!shadow.path.starts_with(from) || filesystems_[key.first].path != mount) continue;
    if (shadow.path.size() > from.size() && shadow.path[from.size()] != '/') continue;
    shadow.path.replace(0, from.size(), to);
    write_path(shadow);
  }
}

void Watches::processes_ended() {
  const std::lock_guard lock(mutex_);
  due_ = due_ || !shadows_.empty();
}

std::chrono::milliseconds Watches::wait() const {
  const std::lock_guard lock(mutex_);
  if (!due_) return std::chrono::milliseconds(-1);
  const auto left = last_sweep_ + options_.between_sweeps - Clock::now();
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(left),
                  std::chrono::milliseconds::zero());
}

void Watches::sweep_if_due() {
  if (wait() == std::chrono::milliseconds::zero()) sweep(options_.between_sweeps);
}

// Shadows that were given to somebody since `oldest_use` stay: the watch may still come.
void Watches::sweep(Clock::duration oldest_use) {
  std::vector<OpenFilePtr> released;
  const std::lock_guard making(making_);
  {
    const std::lock_guard lock(mutex_);
    due_ = false;
    last_sweep_ = Clock::now();
    released.swap(released_);
  }
  const std::vector<std::string> names = names_in(opened_.get(), kShadows);
  if (names.empty()) return;
  const InotifyUsers users(options_.all_users);
  for (const std::string& name : names) {
    struct stat status {};
    const std::string path = in_shadows(name);
    if (::fstatat(opened_.get(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        users.may_watch(status)) {
      continue;
    }
    std::optional<Key> key;
    {
      const std::lock_guard lock(mutex_);
      const auto shadow = std::find_if(shadows_.begin(), shadows_.end(),
                                       [&](const auto& each) { return each.second.name == name; });
      if (shadow != shadows_.end() && shadow->second.given + oldest_use > Clock::now()) {
        due_ = true;
        continue;
      }
      if (shadow != shadows_.end()) key = shadow->first;
    }
    if (key) {
      end(*key);
    } else {
      remove_tree(opened_.get(), path);
      ::unlinkat(opened_.get(), in_paths(bare(name)).c_str(), 0);
    }
  }
}

std::size_t Watches::count() const {
  const std::lock_guard lock(mutex_);
  return shadows_.size();
}

// Empty: nobody watches it any more.
std::string Watches::path_of(const Key& key, std::string_view name) {
  const auto shadow = shadows_.find(key);
  if (shadow == shadows_.end()) return {};
  if (name.empty()) return in_shadows(shadow->second.name);
  return fmt::format("{}/{}/{}", kShadows, shadow->second.name, name);
}

// True if it is there now, as what it shall be.
bool Watches::make(const std::string& path, bool is_directory) const {
  for (int tries = 0; tries < 2; ++tries) {
    const int made = is_directory ? ::mkdirat(opened_.get(), path.c_str(), 0755)
                                  : ::mknodat(opened_.get(), path.c_str(), S_IFREG | 0644, 0);
    if (made == 0) return true;
    struct stat status {};
    if (errno != EEXIST ||
        ::fstatat(opened_.get(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      return false;
    }
    if (S_ISDIR(status.st_mode) == is_directory) return true;
    remove_tree(opened_.get(), path);
  }
  return false;
}

// SOURCE: fsnotify_change of Linux 6: which changes of times give which event.
void Watches::happened(const Key& key, FileEvent event, const EventListener::Place& place) {
  constexpr timespec kNow{0, UTIME_NOW};
  constexpr timespec kOmit{0, UTIME_OMIT};
  const std::lock_guard lock(mutex_);
  const std::string path = path_of(key, place.name);
  if (path.empty()) return;
  std::array<timespec, 2> times{kNow, kNow};
  switch (event) {
    case FileEvent::kCreate:
      if (shadows_.find(key)->second.stale.erase(std::string(place.name)) != 0) {
        remove_tree(opened_.get(), path);
      }
      (void)make(path, place.is_directory);
      return;
    case FileEvent::kDelete:
      ::unlinkat(opened_.get(), path.c_str(), place.is_directory ? AT_REMOVEDIR : 0);
      return;
    case FileEvent::kAccess:
      times[1] = kOmit;
      break;
    case FileEvent::kModify:
      times[0] = kOmit;
      break;
    case FileEvent::kAttributes:
      break;
  }
  ::utimensat(opened_.get(), path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
}

void Watches::opened(const Key& key, const OpenFile& file, const EventListener::Place& place) {
  const std::lock_guard lock(mutex_);
  const std::string path = path_of(key, place.name);
  if (path.empty() || held_.size() >= kMostHeld) return;
  const int access = file.flags().writes() && !place.is_directory ? O_WRONLY : O_RDONLY;
  Descriptor shadow(::openat(opened_.get(), path.c_str(), access | O_NOFOLLOW | O_CLOEXEC));
  if (shadow.ok()) held_[&file].push_back({key, !place.name.empty(), std::move(shadow)});
}

// Of a file that was open before the watch, or whose shadow could not be held, an opening is told,
// too.
void Watches::closed(std::uint32_t instance, const OpenFile& file,
                     std::span<const EventListener::Place> places) {
  std::vector<Held> held;
  const std::lock_guard lock(mutex_);
  if (const auto found = held_.find(&file); found != held_.end()) {
    held = std::move(found->second);
    held_.erase(found);
  }
  for (const EventListener::Place& place : places) {
    const bool as_entry = !place.name.empty();
    const auto is_of_place = [&](const Held& one) { return one.as_entry == as_entry; };
    if (std::none_of(held.begin(), held.end(), is_of_place)) {
      const std::string path = path_of({instance, place.object}, place.name);
      const int access = file.flags().writes() && !place.is_directory ? O_WRONLY : O_RDONLY;
      if (path.empty()) continue;
      const Descriptor now(::openat(opened_.get(), path.c_str(), access | O_NOFOLLOW | O_CLOEXEC));
    }
  }
  for (Held& one : held) one.descriptor.reset();  // in the order of their opening
}

void Watches::renamed(std::uint32_t instance, const EventListener::Place* from,
                      const EventListener::Place* to, bool exchange) {
  const std::lock_guard lock(mutex_);
  const int directory = opened_.get();
  const auto path = [&](const EventListener::Place* place) {
    if (place == nullptr) return std::string();
    const Key key{instance, place->object};
    if (const auto shadow = shadows_.find(key); shadow != shadows_.end()) {
      shadow->second.stale.erase(std::string(place->name));
    }
    return path_of(key, place->name);
  };
  const std::string left = path(from);
  const std::string came = path(to);
  const auto leave = [&](const std::string& name) {
    ::renameat(directory, name.c_str(), directory, kAside);
    remove_tree(directory, kAside);
  };
  const auto come = [&](const std::string& name, bool is_directory) {
    if (make(kAside, is_directory)) ::renameat(directory, kAside, directory, name.c_str());
  };
  if (!left.empty() && !came.empty()) {
    ::renameat2(directory, left.c_str(), directory, came.c_str(), exchange ? RENAME_EXCHANGE : 0);
  } else if (!left.empty()) {
    leave(left);
    if (exchange) come(left, from->other_is_directory);
  } else if (!came.empty()) {
    if (exchange) leave(came);
    come(came, to->is_directory);
  }
}

void Watches::moved(const Key& key) {
  const std::lock_guard lock(mutex_);
  const auto shadow = shadows_.find(key);
  if (shadow == shadows_.end()) return;
  std::string& name = shadow->second.name;
  const std::string before = in_shadows(name);
  std::string other = name.ends_with(kMovedMark) ? bare(name) : name + kMovedMark;
  const std::string after = in_shadows(other);
  if (::renameat(opened_.get(), before.c_str(), opened_.get(), after.c_str()) == 0) {
    name = std::move(other);
  }
}

// What is held of it goes on, as the files that are open do.
void Watches::removed(const Key& key) {
  const std::lock_guard lock(mutex_);
  const auto shadow = shadows_.find(key);
  if (shadow == shadows_.end()) return;
  remove_tree(opened_.get(), in_shadows(shadow->second.name));
  ::unlinkat(opened_.get(), in_paths(bare(shadow->second.name)).c_str(), 0);
  released_.push_back(std::move(shadow->second.file));
  shadows_.erase(shadow);
}

}  // namespace libservices::host
