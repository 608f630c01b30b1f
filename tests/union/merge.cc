// SPDX-License-Identifier: Apache-2.0
#include "tests/union/merge.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <utility>

namespace libservices::testing {
namespace {

constexpr const char* kOpaque = "trusted.overlay.opaque";
constexpr const char* kWhiteoutMark = "trusted.overlay.whiteout";

void must(bool holds, const std::string& what) {
  if (holds) return;
  std::perror(what.c_str());
  std::abort();
}

std::string value_of(const std::string& path, const char* name) {
  std::array<char, 65536> value;
  const ssize_t size = lgetxattr(path.c_str(), name, value.data(), value.size());
  return size < 0 ? "" : std::string(value.data(), static_cast<std::size_t>(size));
}

struct stat attributes_of(const std::string& path) {
  struct stat seen;
  must(lstat(path.c_str(), &seen) == 0, path);
  return seen;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  DIR* stream = opendir(directory.c_str());
  must(stream != nullptr, directory);
  while (const dirent* found = readdir(stream)) {
    const std::string_view name = found->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  closedir(stream);
  return names;
}

// What a merged directory shows, of which `parts` are the layers' parts from the top: `visit` is
// called with each name and the objects of that name, one, or directories that merge.
template <class Visit>
void for_each_entry(const std::vector<std::string>& parts, Visit&& visit) {
  std::set<std::string> decided;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const std::string& name : names_in(parts[i])) {
      if (!decided.insert(name).second || is_whiteout(parts[i] + "/" + name)) continue;
      std::vector<std::string> objects;
      for (std::size_t below = i; below < parts.size(); ++below) {
        const std::string path = parts[below] + "/" + name;
        struct stat seen;
        if (lstat(path.c_str(), &seen) != 0) continue;
        const bool is_directory = S_ISDIR(seen.st_mode);
        if (is_directory || objects.empty()) objects.push_back(path);
        if (!is_directory || value_of(path, kOpaque) == "y") break;
      }
      visit(name, objects);
    }
  }
}

class Merge {
 public:
  explicit Merge(std::string hidden) : hidden_(std::move(hidden)) {}

  void directory(const std::vector<std::string>& parts, const std::string& into) {
    for_each_entry(parts, [&](const std::string& name, const std::vector<std::string>& objects) {
      const std::string path = into + "/" + name;
      const struct stat seen = attributes_of(objects.front());
      if (!S_ISDIR(seen.st_mode)) return copy(objects.front(), seen, path);
      must(::mkdir(path.c_str(), 0700) == 0, path);
      directory(objects, path);
    });
    dress(parts.front(), into);
  }

  // Names that no layer shows.
  void complete_links() {
    for (const auto& [key, copy] : copies_) {
      const nlink_t links = copy.links;
      while (attributes_of(copy.path).st_nlink < links) {
        const std::string extra = fmt::format("{}/{}", hidden_, next_hidden_++);
        must(::link(copy.path.c_str(), extra.c_str()) == 0, extra);
      }
    }
  }

 private:
  void copy(const std::string& from, const struct stat& seen, const std::string& into) {
    auto [known, is_new] =
        copies_.emplace(std::pair(seen.st_dev, seen.st_ino), Copy{into, seen.st_nlink});
    // Layers may lie on one volume, yet no file is in two of them.
    if (!is_new) return must(::link(known->second.path.c_str(), into.c_str()) == 0, into);
    if (S_ISREG(seen.st_mode)) {
      content(from, static_cast<std::uint64_t>(seen.st_size), into);
    } else if (S_ISLNK(seen.st_mode)) {
      std::string target(static_cast<std::size_t>(seen.st_size), '\0');
      must(::readlink(from.c_str(), target.data(), target.size()) >= 0, from);
      must(::symlink(target.c_str(), into.c_str()) == 0, into);
    } else {
      must(::mknod(into.c_str(), seen.st_mode, seen.st_rdev) == 0, into);
    }
    dress(from, into);
  }

  static void content(const std::string& from, std::uint64_t size, const std::string& into) {
    const int source = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
    const int target = ::open(into.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(source >= 0 && target >= 0 && ftruncate(target, static_cast<off_t>(size)) == 0, into);
    std::string buffer(size, '\0');
    must(pread(source, buffer.data(), size, 0) == static_cast<ssize_t>(size), from);
    for (std::uint64_t at = 0; at < size; at += 4096) {
      const auto block = std::string_view(buffer).substr(at, 4096);
      if (block.find_first_not_of('\0') == block.npos) continue;
      must(pwrite(target, block.data(), block.size(), static_cast<off_t>(at)) > 0, into);
    }
    ::close(source);
    ::close(target);
  }

  static void dress(const std::string& from, const std::string& to) {
    const struct stat seen = attributes_of(from);
    must(lchown(to.c_str(), seen.st_uid, seen.st_gid) == 0, to);
    if (!S_ISLNK(seen.st_mode)) must(chmod(to.c_str(), seen.st_mode & 07777U) == 0, to);
    std::array<char, 4096> names;
    const ssize_t size = llistxattr(from.c_str(), names.data(), names.size());
    for (const char* name = names.data(); name < names.data() + size;
         name += std::strlen(name) + 1) {
      if (!std::string_view(name).starts_with("user.")) continue;
      const std::string value = value_of(from, name);
      must(lsetxattr(to.c_str(), name, value.data(), value.size(), 0) == 0, to);
    }
    const timespec times[2] = {seen.st_atim, seen.st_mtim};
    must(utimensat(AT_FDCWD, to.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0, to);
  }

  struct Copy {
    std::string path;
    nlink_t links;
  };
  const std::string hidden_;
  unsigned next_hidden_ = 0;
  std::map<std::pair<dev_t, ino_t>, Copy> copies_;
};

}  // namespace

int set_mark(const std::string& layer, const std::string& path, Mark mark) {
  const std::string whole = layer + path;
  struct stat seen;
  if (mark == Mark::kWhiteout) return mknod(whole.c_str(), S_IFCHR, 0) == 0 ? 0 : errno;
  if (mark == Mark::kOpaque) {
    if (lstat(whole.c_str(), &seen) != 0) return errno;
    if (!S_ISDIR(seen.st_mode)) return ENOTDIR;
    // Overlayfs does not look for attribute whiteouts in an opaque directory.
    if (value_of(whole, kOpaque) == "x") return EINVAL;
    return lsetxattr(whole.c_str(), kOpaque, "y", 1, 0) == 0 ? 0 : errno;
  }
  const std::string parent = whole.substr(0, whole.rfind('/'));
  if (value_of(parent, kOpaque) == "y") return EINVAL;
  if (mknod(whole.c_str(), S_IFREG, 0) != 0) return errno;
  for (const std::string& marked : {layer, parent}) {
    if (value_of(marked, kOpaque) != "y") lsetxattr(marked.c_str(), kOpaque, "x", 1, 0);
  }
  return lsetxattr(whole.c_str(), kWhiteoutMark, "", 0, 0) == 0 ? 0 : errno;
}

bool is_whiteout(const std::string& path) {
  struct stat seen;
  if (lstat(path.c_str(), &seen) != 0) return false;
  if (S_ISCHR(seen.st_mode)) return seen.st_rdev == 0;
  return S_ISREG(seen.st_mode) && seen.st_size == 0 &&
         lgetxattr(path.c_str(), kWhiteoutMark, nullptr, 0) >= 0;
}

void remove_attribute_whiteouts(const std::string& upper) {
  for (const std::string& name : names_in(upper)) {
    const std::string path = upper + "/" + name;
    const mode_t mode = attributes_of(path).st_mode;
    if (S_ISREG(mode) && is_whiteout(path)) ::unlink(path.c_str());
    if (S_ISDIR(mode)) remove_attribute_whiteouts(path);
  }
}

void merge_layers(const std::vector<std::string>& layers, const std::string& into,
                  const std::string& hidden) {
  Merge merge(hidden);
  merge.directory(layers, into);
  merge.complete_links();
}

}  // namespace libservices::testing
