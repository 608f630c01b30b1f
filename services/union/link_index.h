// SPDX-License-Identifier: Apache-2.0
//
// The index of a union: a lower file with several names that was copied up is linked into a lasting
// directory of the upper, too, under the lower file's identity. So each of its names in the lowers
// leads to the one copy, after a restart as well.
//
// The copy's origin (marks.h) counts how many of those names the union does not take from the
// lowers any more. When that is all of them, and no name is left in the upper, the index alone
// keeps the copy: then it goes.
//
// THREADS: all functions at once. Lock order: counting_ → Record::mutex, the record table. The
// upper is called with counting_ held.
#ifndef LIBSERVICES_SERVICES_UNION_LINK_INDEX_H_
#define LIBSERVICES_SERVICES_UNION_LINK_INDEX_H_

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "libservices/capabilities.h"
#include "services/union/branches.h"
#include "services/union/upper_marks.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class LinkIndex {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using UpperNode = typename Upper::Node;

  LinkIndex(B& branches, UpperMarks<Upper>& marks) : branches_(branches), marks_(marks) {}

  // A copy, with its marks.
  struct Indexed {
    Entry<UpperNode> entry;
    Marks marks;
  };
  // The copy of the lower object of that origin and type (S_IFMT), if it is in the index.
  Result<std::optional<Indexed>> find(const Context& context, const Origin& origin,
                                      std::uint32_t type) {
    using Answer = std::optional<Indexed>;
    LIBSERVICES_TRY(const auto kept, branches_.upper().staging(context, Staging::kKept));
    auto entry = branches_.upper().lookup(context, kept, index_name(origin));
    if (!entry.ok()) {
      return entry.error() == Errno{ENOENT} ? Result<Answer>(Answer()) : entry.error();
    }
    LIBSERVICES_TRY(Marks marks, marks_of(context, branches_.upper(), entry->node));
    if (!marks.origin || marks.origin->ctime != origin.ctime ||
        (entry->attributes.mode & S_IFMT) != type) {
      return Answer();  // of another file that once had the number
    }
    return Answer(Indexed{*std::move(entry), std::move(marks)});
  }

  // Whether a lower object that has the attributes `seen` will be in it after its copy-up.
  bool will_have(const R& record, const Attributes& seen) const {
    return branches_.keeps_index() && OffersLink<Upper> && !record.has_upper() &&
           !record.is_directory() && seen.links + record.names_hidden.load() > 1 &&
           branches_.has_upper();
  }

  // Whether the copy `node` is in it now: only files with several names are.
  Result<bool> add(const Context& context, const UpperNode& node,
                   const std::optional<Origin>& origin) {
    if constexpr (OffersLink<Upper>) {
      if (!branches_.keeps_index() || !origin || origin->links <= 1) return false;
      LIBSERVICES_TRY(const auto kept, branches_.upper().staging(context, Staging::kKept));
      const std::string name = index_name(*origin);
      (void)branches_.upper().unlink(context, kept, name);  // of another file
      auto linked = branches_.upper().link(context, node, kept, name);
      if (!linked.ok()) return linked.error();
      return true;
    }
    return false;
  }
  Result<void> remove(const Context& context, const Origin& origin) {
    LIBSERVICES_TRY(const auto kept, branches_.upper().staging(context, Staging::kKept));
    return branches_.upper().unlink(context, kept, index_name(origin));
  }

  // One of the names that the lowers have of an indexed object is not taken from there any more.
  Result<void> hide_name(const Context& context, R& record) {
    record.names_hidden.fetch_add(1);
    std::lock_guard counting(counting_);
    const auto node = record.upper();
    if (!record.indexed.load() || !node) return {};
    LIBSERVICES_TRY(const Marks marks, marks_of(context, branches_.upper(), *node));
    if (!marks.origin) return {};
    Origin origin = *marks.origin;
    ++origin.hidden;
    LIBSERVICES_CHECK_OK(marks_.set(context, *node, kOrigin, origin.encode()));
    return drop_if_last(context, record, *node, origin);
  }
  // An indexed object has lost a name in the upper.
  Result<void> lost_name(const Context& context, R& record) {
    std::lock_guard counting(counting_);
    const auto node = record.upper();
    if (!record.indexed.load() || !node) return {};
    LIBSERVICES_TRY(const Marks marks, marks_of(context, branches_.upper(), *node));
    return marks.origin ? drop_if_last(context, record, *node, *marks.origin) : Result<void>();
  }

 private:
  static std::string index_name(const Origin& origin) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string name;
    for (const std::uint64_t word : {origin.branch, origin.inode}) {
      for (int shift = 60; shift >= 0; shift -= 4) name += kDigits[word >> shift & 15U];
    }
    return name;
  }

  // REQUIRES: counting_ is held.
  Result<void> drop_if_last(const Context& context, R& record, const UpperNode& node,
                            const Origin& origin) {
    LIBSERVICES_TRY(const Attributes seen, branches_.upper().getattr(context, node));
    if (seen.links > 1 || origin.hidden < origin.links) return {};
    LIBSERVICES_CHECK_OK(remove(context, origin));
    record.indexed.store(false);
    branches_.table().forget({0, seen.device, seen.inode});
    return {};
  }

  B& branches_;
  UpperMarks<Upper>& marks_;
  // Names of one object can go in several directories at once: held while a count in an origin is
  // read and changed, or compared with the names that are left.
  std::mutex counting_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_LINK_INDEX_H_
