// SPDX-License-Identifier: Apache-2.0
//
// The branches of a union and what is found in them: whiteouts, opaque directories, and which
// branches an object's name leads to.
//
// On disk it is overlayfs's form. A whiteout is a character device 0:0. An opaque directory has
// the attribute trusted.overlay.opaque, or user.overlay.opaque where the service may not use the
// trusted name space, with the value "y". Both are read; the one that the upper takes is written.
// SOURCE: Linux, Documentation/filesystems/overlayfs.rst.
#ifndef LIBSERVICES_SERVICES_UNION_BRANCHES_H_
#define LIBSERVICES_SERVICES_UNION_BRANCHES_H_

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/records.h"

namespace libservices::union_internal {

inline constexpr std::string_view kTrusted = "trusted.overlay.";
inline constexpr std::string_view kUser = "user.overlay.";

inline bool is_whiteout(const Attributes& object) {
  return S_ISCHR(object.mode) && object.special_device == 0;
}
inline bool is_overlay_name(std::string_view name) {
  return name.starts_with(kTrusted) || name.starts_with(kUser);
}

template <class Upper, class Lower>
class Branches {
 public:
  using UpperNode = typename Upper::Node;
  using LowerNode = typename Lower::Node;
  using Table = RecordTable<UpperNode, LowerNode>;
  using R = typename Table::R;
  using Pointer = std::shared_ptr<R>;

  Branches(typename Upper::Config upper, std::vector<typename Lower::Config> lowers)
      : upper_(std::move(upper)) {
    for (auto& config : lowers) lowers_.push_back(std::make_unique<Lower>(std::move(config)));
  }

  Upper& upper() { return upper_; }
  Lower& lower(std::uint32_t branch) { return *lowers_[branch - 1]; }
  std::vector<std::unique_ptr<Lower>>& lowers() { return lowers_; }
  Table& table() { return table_; }
  const Pointer& root() const { return root_; }

  Result<void> open_roots(const Context& context) {
    std::vector<std::uint64_t> devices;
    LIBSERVICES_TRY(auto upper_root, upper_.root(context));
    devices.push_back(upper_root.attributes.device);
    std::vector<typename R::InLower> parts;
    for (std::uint32_t branch = 1; branch <= lowers_.size(); ++branch) {
      LIBSERVICES_TRY(auto lower_root, lower(branch).root(context));
      devices.push_back(lower_root.attributes.device);
      parts.push_back({branch, std::move(lower_root.node)});
    }
    device_ = devices.front();
    table_.set_devices(std::move(devices));
    root_ = std::make_shared<R>(upper_root.attributes.inode, upper_root.attributes);
    root_->upper_node = std::move(upper_root.node);
    root_->in_upper = true;
    root_->lowers = std::move(parts);
    return {};
  }
  void close_roots() { root_.reset(); }

  // What callers see of a record's attributes.
  Attributes shown(const R& record, Attributes attributes) const {
    attributes.device = device_;
    attributes.inode = record.inode;
    attributes.btime = record.born;
    // As overlayfs: parts of a merged directory have link counts of their own, and 1 says so.
    if (record.is_directory() && record.is_merged()) attributes.links = 1;
    // A lower's own count knows nothing of what was removed here.
    if (record.is_directory() ? record.is_merged() : !record.has_upper()) {
      attributes.links -= std::min(attributes.links, record.names_removed.load());
    }
    return attributes;
  }

  Result<Attributes> getattr(const Context& context, const R& record) {
    if (auto node = record.upper()) {
      LIBSERVICES_TRY(const Attributes seen, upper_.getattr(context, *node));
      return shown(record, seen);
    }
    const auto& first = record.lowers.front();
    LIBSERVICES_TRY(const Attributes seen, lower(first.branch).getattr(context, first.node));
    return shown(record, seen);
  }

  // The union's entry, and what stands in the upper: ENOENT, a whiteout, or the object itself.
  struct Found {
    Pointer record;  // null: no such name in the union
    Attributes attributes;
    std::optional<Attributes> in_upper;  // as the upper has them
    bool whiteout_in_upper = false;
  };
  // REQUIRES: directory->entries held. ERRORS: of a branch that fails; not ENOENT.
  Result<Found> find(const Context& context, const Pointer& directory, std::string_view name) {
    Found found;
    std::optional<Entry<UpperNode>> in_upper;
    bool go_on = !directory->lowers.empty() && directory->lower_names.may_have(name);
    if (auto node = directory->upper(); node && directory->upper_names.may_have(name)) {
      auto entry = upper_.lookup(context, *node, name);
      if (entry.ok() && is_whiteout(entry->attributes)) {
        found.whiteout_in_upper = true;
        return found;
      }
      if (entry.ok()) {
        if (!entry->attributes.is_directory()) {
          go_on = false;
        } else if (go_on) {
          LIBSERVICES_TRY(const bool opaque, is_opaque(context, upper_, entry->node));
          go_on = !opaque;
        }
        found.in_upper = entry->attributes;
        in_upper = *std::move(entry);
      } else if (entry.error() != Errno{ENOENT}) {
        return entry.error();
      } else {
        directory->upper_names.missed(
            room_, [&](auto&& take) { return list_names(context, upper_, *node, take); });
      }
    }
    std::vector<typename R::InLower> parts;
    Attributes lower_attributes;
    bool missed = go_on;
    for (std::size_t i = 0; go_on && i < directory->lowers.size(); ++i) {
      const auto& part = directory->lowers[i];
      Lower& branch = lower(part.branch);
      auto entry = branch.lookup(context, part.node, name);
      if (!entry.ok()) {
        if (entry.error() != Errno{ENOENT}) return entry.error();
        continue;
      }
      missed = false;
      if (is_whiteout(entry->attributes)) break;
      const bool is_directory = entry->attributes.is_directory();
      if (!is_directory && (in_upper || !parts.empty())) break;
      if (parts.empty()) lower_attributes = entry->attributes;
      if (is_directory) {
        LIBSERVICES_TRY(const bool opaque, is_opaque(context, branch, entry->node));
        go_on = !opaque;
      } else {
        go_on = false;
      }
      parts.push_back({part.branch, std::move(entry->node)});
    }
    if (missed) lower_missed(context, *directory);
    if (!in_upper && parts.empty()) return found;
    const Attributes& first = in_upper ? in_upper->attributes : lower_attributes;
    const BranchKey key{in_upper ? 0 : parts.front().branch, first.device, first.inode};
    found.record = table_.intern(key, first.mode & S_IFMT, [&](std::uint64_t number) {
      auto record = std::make_shared<R>(number, first);
      if (in_upper) {
        record->upper_node = in_upper->node;
        record->in_upper = true;
      }
      record->lowers = parts;
      return record;
    });
    place(found.record, directory, name);
    if (!in_upper && found.record->has_upper()) {
      // Known by another name that was copied up: a hard link of the lower branch.
      LIBSERVICES_TRY(found.attributes, getattr(context, *found.record));
    } else {
      found.attributes = shown(*found.record, first);
    }
    return found;
  }

  // Whether the lowers show something under `name`, were it not for the upper.
  Result<bool> in_lowers(const Context& context, const R& directory, std::string_view name) {
    if (!directory.lower_names.may_have(name)) return false;
    for (const auto& part : directory.lowers) {
      auto entry = lower(part.branch).lookup(context, part.node, name);
      if (entry.ok()) return !is_whiteout(entry->attributes);
      if (entry.error() != Errno{ENOENT}) return entry.error();
    }
    return false;
  }

  // Whether `at` is `ancestor` or below it.
  static bool is_within(Pointer at, const Pointer& ancestor) {
    while (at && at != ancestor) {
      Pointer parent;
      {
        std::lock_guard lock(at->mutex);
        parent = at->parent;
      }
      at = std::move(parent);
    }
    return at != nullptr;
  }

  static void place(const Pointer& record, const Pointer& parent, std::string_view name) {
    std::lock_guard lock(record->mutex);
    record->parent = parent;
    record->name.assign(name);
  }

  // `record` has lost the name.
  static void unplace(const Pointer& record, const Pointer& parent, std::string_view name) {
    record->names_removed.fetch_add(1);
    std::lock_guard lock(record->mutex);
    if (record->parent == parent && record->name == name) record->parent = nullptr;
  }

  template <class Branch>
  static Result<bool> is_opaque(const Context& context, Branch& branch,
                                const typename Branch::Node& node) {
    if constexpr (OffersXattrs<Branch>) {
      for (const std::string_view name : {"trusted.overlay.opaque", "user.overlay.opaque"}) {
        std::array<std::byte, 1> value{};
        auto size = branch.getxattr(context, node, name, value);
        if (size.ok() && *size == 1 && value[0] == std::byte{'y'}) return true;
        if (!size.ok() && size.error() != Errno{ENODATA} && size.error() != Errno{EOPNOTSUPP} &&
            size.error() != Errno{ERANGE} && size.error() != Errno{EPERM}) {
          return size.error();
        }
      }
    }
    return false;
  }

 private:
  // Whether `take` got all names of the directory.
  template <class Branch, class Take>
  static bool list_names(const Context& context, Branch& branch,
                         const typename Branch::Node& directory, Take&& take) {
    auto opened = branch.open(context, directory, OpenFlags{O_RDONLY | O_DIRECTORY});
    if (!opened.ok()) return false;
    bool whole = true;
    auto listed = branch.readdir(context, opened->file, 0, Listing::kNames,
                                 [&](const DirEntry& entry) { return whole = take(entry.name); });
    (void)branch.close(context, opened->file);
    return listed.ok() && whole;
  }

  void lower_missed(const Context& context, R& directory) {
    directory.lower_names.missed(room_, [&](auto&& take) {
      for (const auto& part : directory.lowers) {
        if (!list_names(context, lower(part.branch), part.node, take)) return false;
      }
      return true;
    });
  }

  Upper upper_;
  std::vector<std::unique_ptr<Lower>> lowers_;  // unique_ptr: a libservice need not be movable
  std::uint64_t device_ = 0;
  KnownNames::Room room_ = KnownNames::make_room();
  Table table_;
  Pointer root_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_BRANCHES_H_
