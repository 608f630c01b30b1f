// SPDX-License-Identifier: Apache-2.0
//
// The search for the parts of one object in the lower branches of a union: past whiteouts, down to
// an opaque directory, and along redirects, as overlayfs does it.
//
// It begins with the parts that the parent has in the lowers, and a name in them. A redirect with
// a path goes on from the roots of the branches further down instead.
// SOURCE: Linux, fs/overlayfs/namei.c, for what stops a search and how redirects join.
#ifndef LIBSERVICES_SERVICES_UNION_LOWER_SEARCH_H_
#define LIBSERVICES_SERVICES_UNION_LOWER_SEARCH_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/union/marks.h"
#include "services/union/records.h"

namespace libservices::union_internal {

// Whether the directory has the name.
template <class Branch>
Result<bool> has_name(const Context& context, Branch& branch,
                           const typename Branch::Node& directory, const std::string& name) {
  auto found = branch.lookup(context, directory, name);
  if (found.ok()) return true;
  if (found.error() == Errno{ENOENT} || found.error() == Errno{ENAMETOOLONG}) return false;
  return found.error();
}

template <class Lower>
class LowerSearch {
 public:
  using Part = LowerPart<typename Lower::Node>;
  using Lowers = std::vector<std::unique_ptr<Lower>>;
  enum class Want : std::uint8_t { kAnything, kDirectory, kContent };

  // `roots`: the lowers' own, all of them. `from`: the parent's parts.
  LowerSearch(const Context& context, Lowers& lowers, const std::vector<Part>& roots,
              const std::vector<Part>& from, std::string_view name)
      : context_(context), lowers_(lowers), roots_(roots), from_(from), name_(name) {}

  // What the upper has: a directory or a file without content, and the marks of it. Before run().
  void go_on_from(Want want, const Marks& marks, std::optional<RangeMap::Stamp> stamp) {
    want_ = want;
    stamp_ = stamp;
    follow(marks.redirect);
  }
  // The first part in which the name is worth asking for.
  void skip_to(std::size_t part) { next_ = part; }

  // `hides` is asked once something was found, before it counts: whether files of the upper hide it.
  template <class Hides>
  Result<void> run(Hides&& hides) {
    while (!stopped_) {
      if (!path_.empty()) {
        if (branch_ >= lowers_.size()) break;
        ++branch_;
        LIBSERVICES_CHECK_OK(look_along_path(hides));
      } else {
        if (next_ >= from_.size()) break;
        LIBSERVICES_CHECK_OK(look_in(from_[next_++], hides));
      }
    }
    return {};
  }

  std::vector<Part>& parts() { return parts_; }
  const Attributes& first() const { return first_; }  // of parts().front()
  std::size_t asked() const { return asked_; }        // lookups in vain
  bool was_stopped() const { return stopped_; }

 private:
  Lower& lower(std::uint32_t branch) { return *lowers_[branch - 1]; }

  template <class Hides>
  Result<void> look_in(const Part& part, Hides&& hides) {
    branch_ = part.branch;
    auto entry = lower(part.branch).lookup(context_, part.node, name_);
    if (!entry.ok()) {
      if (entry.error() != Errno{ENOENT}) return entry.error();
      ++asked_;
      passed_.push_back(&part);
      return {};
    }
    LIBSERVICES_TRY(const bool white, is_white(part, *entry));
    if (white) return stop();
    if (!asked_upper_) {
      asked_upper_ = true;
      LIBSERVICES_TRY(const bool hidden, hides());
      if (hidden) return stop();
    }
    LIBSERVICES_TRY(const bool hidden, hidden_by_files());
    if (hidden) return stop();
    passed_.push_back(&part);
    return accept(std::move(*entry), part.impure);
  }

  Result<bool> is_white(const Part& part, const Entry<typename Lower::Node>& entry) {
    if (is_whiteout(entry.attributes)) return true;
    if (!part.whiteouts_inside || !entry.attributes.is_regular() || entry.attributes.size != 0) {
      return false;
    }
    LIBSERVICES_TRY(const Marks marks, marks_of(context_, lower(part.branch), entry.node));
    return marks.whiteout;
  }

  // Marks that are files, in the directories that were passed on the way down.
  Result<bool> hidden_by_files() {
    if (is_mark_file(name_)) return true;
    for (const Part* const part : passed_) {
      LIBSERVICES_TRY(const bool hidden, has_name(context_, lower(part->branch), part->node,
                                                       std::string(kWhiteoutFile) + name_));
      if (hidden) return true;
    }
    passed_.clear();
    for (; opaque_checked_ < parts_.size() && want_ == Want::kDirectory; ++opaque_checked_) {
      const Part& part = parts_[opaque_checked_];
      for (const std::string_view mark : kOpaqueFiles) {
        LIBSERVICES_TRY(const bool opaque, has_name(context_, lower(part.branch), part.node,
                                                         std::string(mark)));
        if (opaque) return true;
      }
    }
    return false;
  }

  Result<void> accept(Entry<typename Lower::Node> entry, bool impure) {
    const Attributes& seen = entry.attributes;
    if (want_ == Want::kAnything) {
      want_ = seen.is_directory() ? Want::kDirectory : Want::kContent;
    } else if (want_ == Want::kDirectory ? !seen.is_directory() : !seen.is_regular()) {
      return stop();
    }
    if (stamp_ && !stamp_->matches(seen)) return stop();  // another file than the one meant
    if (parts_.empty()) first_ = seen;
    const bool read = seen.is_directory() || (impure && seen.is_regular()) || may_be_metacopy(seen);
    Marks marks;
    if (read) {
      LIBSERVICES_TRY(marks, marks_of(context_, lower(branch_), entry.node));
    }
    Part part{branch_, std::move(entry.node), marks.impure, marks.whiteouts_inside, std::nullopt};
    if (seen.is_directory()) {
      stopped_ = marks.opaque;
    } else if (!seen.is_regular() || !marks.metacopy) {
      stopped_ = true;
    } else {
      part.ranges = ranges_of(marks, seen);
      stopped_ = !part.ranges;  // what is below it is not known: reading it fails
      if (stopped_) part.ranges.emplace(RangeMap::kSmallestShift, seen);
      stamp_ = marks.ranges.empty() ? std::nullopt : std::optional(part.ranges->stamp());
    }
    parts_.push_back(std::move(part));
    follow(marks.redirect);
    return {};
  }

  template <class Hides>
  Result<void> look_along_path(Hides&& hides) {
    if (!asked_upper_) {
      asked_upper_ = true;  // the upper's directory of a redirect may be opaque by a file
      if (want_ == Want::kDirectory) {
        LIBSERVICES_TRY(const bool hidden, hides());
        if (hidden) return stop();
      }
    }
    const Part* const root = &roots_[branch_ - 1];
    typename Lower::Node node = root->node;
    bool impure = root->impure;
    bool ends = false;
    const std::vector<std::string> path = path_;
    for (std::size_t i = 0; i < path.size(); ++i) {
      auto entry = lower(branch_).lookup(context_, node, path[i]);
      if (!entry.ok()) {
        if (entry.error() != Errno{ENOENT} && entry.error() != Errno{ENAMETOOLONG}) {
          return entry.error();
        }
        ++asked_;
        stopped_ = ends;
        return {};
      }
      const bool is_last = i + 1 == path.size();
      if (is_whiteout(entry->attributes)) return stop();
      if (is_last) {
        LIBSERVICES_TRY(const bool hidden, hidden_by_files());
        if (hidden) return stop();
        LIBSERVICES_CHECK_OK(accept(std::move(*entry), impure));
        break;
      }
      if (!entry->attributes.is_directory()) return stop();
      LIBSERVICES_TRY(const Marks marks, marks_of(context_, lower(branch_), entry->node));
      ends = ends || marks.opaque;
      impure = marks.impure;
      if (!marks.redirect.empty()) {  // for the branches below this one
        std::vector<std::string> joined;
        if (!join(marks.redirect, {path.begin(), path.begin() + static_cast<long>(i)}, joined)) {
          return stop();
        }
        joined.insert(joined.end(), path.begin() + static_cast<long>(i) + 1, path.end());
        path_ = std::move(joined);
      }
      node = std::move(entry->node);
    }
    stopped_ = stopped_ || ends;
    return {};
  }

  // Where `redirect` leads from a directory in `parents`.
  static bool join(const std::string& redirect, std::vector<std::string> parents,
                   std::vector<std::string>& joined) {
    std::vector<std::string> names;
    if (!split_path(redirect, names)) return false;
    if (redirect.front() == '/') parents.clear();
    parents.insert(parents.end(), names.begin(), names.end());
    joined = std::move(parents);
    return true;
  }

  void follow(const std::string& redirect) {
    if (redirect.empty() || stopped_) return;
    if (redirect.front() == '/') {
      if (!split_path(redirect, path_)) stopped_ = true;
    } else if (redirect.find('/') != std::string::npos || redirect == "." || redirect == "..") {
      stopped_ = true;  // no form that anyone writes
    } else if (path_.empty()) {
      name_ = redirect;
    } else {
      path_.back() = redirect;
    }
    passed_.clear();
  }

  Result<void> stop() {
    stopped_ = true;
    return {};
  }

  const Context& context_;
  Lowers& lowers_;
  const std::vector<Part>& roots_;
  const std::vector<Part>& from_;
  std::string name_;
  std::vector<std::string> path_;  // empty: `name_` in `from_`
  std::size_t next_ = 0;
  std::uint32_t branch_ = 0;
  Want want_ = Want::kAnything;
  std::optional<RangeMap::Stamp> stamp_;
  bool stopped_ = false;
  bool asked_upper_ = false;
  std::size_t opaque_checked_ = 0;
  std::size_t asked_ = 0;
  std::vector<const Part*> passed_;
  std::vector<Part> parts_;
  Attributes first_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_LOWER_SEARCH_H_
