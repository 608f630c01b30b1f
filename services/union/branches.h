// SPDX-License-Identifier: Apache-2.0
//
// The branches of a union: their roots, and the identity and the attributes that callers see of
// objects in them (records.h). What a name leads to: lookup.h.
//
// THREADS: all functions at once, between open_roots() and close_roots().
#ifndef LIBSERVICES_SERVICES_UNION_BRANCHES_H_
#define LIBSERVICES_SERVICES_UNION_BRANCHES_H_

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/marks.h"
#include "services/union/records.h"

namespace libservices::union_internal {

// A branch that can say where its files are.
template <class S>
concept KnowsPlace = requires(const S& s) {
  { s.place() } -> std::convertible_to<std::string>;
};

template <class Upper, class Lower>
class Branches {
 public:
  using UpperNode = typename Upper::Node;
  using LowerNode = typename Lower::Node;
  using Table = RecordTable<UpperNode, LowerNode>;
  using R = typename Table::R;
  using Pointer = std::shared_ptr<R>;
  using Partial = typename R::Partial;

  Branches(typename Upper::Config upper, std::vector<typename Lower::Config> lowers,
           bool without_upper, bool index)
      : upper_(std::move(upper)), without_upper_(without_upper), index_(index) {
    for (auto& config : lowers) lowers_.push_back(std::make_unique<Lower>(std::move(config)));
  }

  Upper& upper() { return upper_; }
  const Upper& upper() const { return upper_; }
  bool has_upper() const { return !without_upper_; }
  bool keeps_index() const { return index_; }
  std::uint64_t device() const { return device_; }  // that callers see
  Lower& lower(std::uint32_t branch) { return *lowers_[branch - 1]; }
  std::vector<std::unique_ptr<Lower>>& lowers() { return lowers_; }
  Table& table() { return table_; }
  const Pointer& root() const { return root_; }

  Result<void> open_roots(const Context& context) {
    std::vector<std::uint64_t> devices{0};
    std::vector<typename R::InLower> parts;
    std::optional<Attributes> first;
    std::optional<UpperNode> upper_node;
    Marks upper_marks;
    if (!without_upper_) {
      LIBSERVICES_TRY(auto upper_root, upper_.root(context));
      LIBSERVICES_TRY(upper_marks, marks_of(context, upper_, upper_root.node));
      devices[0] = upper_root.attributes.device;
      first = upper_root.attributes;
      upper_node = std::move(upper_root.node);
    }
    identities_.assign(1, 0);
    for (std::uint32_t branch = 1; branch <= lowers_.size(); ++branch) {
      LIBSERVICES_TRY(auto lower_root, lower(branch).root(context));
      LIBSERVICES_TRY(const Marks marks, marks_of(context, lower(branch), lower_root.node));
      devices.push_back(lower_root.attributes.device);
      if (!first) first = lower_root.attributes;
      parts.push_back({branch, std::move(lower_root.node), marks.impure, marks.whiteouts_inside,
                       std::nullopt});
      identities_.push_back(identity_of(lower(branch), branch));
    }
    const std::uint32_t top = without_upper_ ? 1 : 0;
    device_ = devices[top];
    table_.set_devices(std::move(devices));
    root_ = std::make_shared<R>(table_.number_of({top, device_, first->inode}), *first);
    root_->in_upper = upper_node.has_value();
    root_->upper_node = std::move(upper_node);
    root_->impure = upper_marks.impure;
    root_->whiteouts_inside = upper_marks.whiteouts_inside;
    root_->lowers = std::move(parts);
    return {};
  }
  void close_roots() { root_.reset(); }

  // What callers see of a record's attributes.
  Attributes shown(const R& record, Attributes attributes) const {
    attributes.device = device_;
    attributes.inode = record.inode;
    attributes.btime = record.born;
    const std::uint32_t hidden = record.names_hidden.load();
    if (record.is_directory()) {
      // As overlayfs: parts of a merged directory have link counts of their own, and 1 says so.
      if (record.is_merged()) attributes.links = 1;
      if (record.removed.load()) attributes.links = 0;
    } else if (record.indexed.load(std::memory_order_acquire)) {
      const std::uint32_t below = record.lower_links - std::min(record.lower_links, hidden);
      attributes.links = attributes.links - std::min(attributes.links, 1U) + below;
    } else if (!record.has_upper()) {
      attributes.links -= std::min(attributes.links, hidden);
    }
    if (const auto partial = record.partial()) {
      attributes.blocks = std::max(attributes.blocks, partial->blocks);
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

  // The origin of what is copied up from `lower`, if its number will still mean it later.
  std::optional<Origin> origin_of(std::uint32_t branch, const Attributes& lower) const {
    if (lower.device != table_.device_of(branch)) return std::nullopt;
    return Origin{identities_[branch], lower.inode, lower.ctime, lower.links, 0};
  }
  // The lower object that an origin names, if its branch is one of ours, and its number may be
  // used: with the index off, the links of a lower file come apart at copy-up.
  std::optional<BranchKey> origin_key(const Marks& marks) const {
    if (!marks.origin || (marks.origin->links > 1 && !index_)) return std::nullopt;
    for (std::uint32_t branch = 1; branch < identities_.size(); ++branch) {
      if (identities_[branch] == marks.origin->branch) {
        return BranchKey{branch, table_.device_of(branch), marks.origin->inode};
      }
    }
    return std::nullopt;
  }

  // The number that callers see for an upper object whose directory entry says `inode`.
  Result<std::uint64_t> number_in_upper(const Context& context, const R& directory,
                                        const UpperNode& node, std::string_view name,
                                        std::uint64_t device, std::uint64_t inode) {
    const BranchKey key{0, device, inode};
    const std::uint64_t plain = table_.number_of(key);
    if (!directory.impure.load(std::memory_order_relaxed)) return plain;
    auto entry = upper_.lookup(context, node, name);
    if (!entry.ok()) {
      return entry.error() == Errno{ENOENT} ? Result<std::uint64_t>(plain) : entry.error();
    }
    LIBSERVICES_TRY(const Marks marks, marks_of(context, upper_, entry->node));
    const auto origin = origin_key(marks);
    return origin ? table_.number_of(*origin) : plain;
  }

 private:
  static std::uint64_t identity_of(const Lower& branch, std::uint32_t number) {
    if constexpr (KnowsPlace<Lower>) {
      std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
      for (const char byte : std::string(branch.place())) {
        hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
      }
      return hash | 1U << 16U;
    }
    return number;
  }

  Upper upper_;
  const bool without_upper_;
  const bool index_;
  std::vector<std::unique_ptr<Lower>> lowers_;  // unique_ptr: a libservice need not be movable
  std::vector<std::uint64_t> identities_;       // of the branches, lasting
  std::uint64_t device_ = 0;
  Table table_;
  Pointer root_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_BRANCHES_H_
