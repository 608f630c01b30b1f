// SPDX-License-Identifier: Apache-2.0
//
// The drafts of a union: what lies in the upper's staging directory, before it is renamed into
// place or after it was taken out of sight. Nobody sees it; what a death leaves is removed at the
// next start.
//
// THREADS: all functions at once. A name is its maker's alone.
#ifndef LIBSERVICES_SERVICES_UNION_DRAFTS_H_
#define LIBSERVICES_SERVICES_UNION_DRAFTS_H_

#include <fcntl.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/union/marks.h"

namespace libservices::union_internal {

template <class Upper>
class Drafts {
 public:
  using UpperNode = typename Upper::Node;

  explicit Drafts(Upper& upper) : upper_(upper) {}

  Result<UpperNode> directory(const Context& context) {
    return upper_.staging(context, Staging::kDrafts);
  }
  // A name in it that nobody uses.
  std::string next_name() { return "#" + std::to_string(names_.fetch_add(1)); }

  void discard(const Context& context, const UpperNode& staging, const std::string& name,
               bool directory) {
    if (directory) {
      (void)upper_.rmdir(context, staging, name);
    } else {
      (void)upper_.unlink(context, staging, name);
    }
  }

  // Removes what lies aside: a whiteout, or a directory that holds nothing but marks. What cannot
  // be removed is out of sight, and goes at the next start.
  void clear(const Context& context, const UpperNode& staging, std::string_view name) {
    auto entry = upper_.lookup(context, staging, name);
    if (!entry.ok()) return;
    if (!entry->attributes.is_directory()) {
      (void)upper_.unlink(context, staging, name);
      return;
    }
    auto opened = upper_.open(context, entry->node, OpenFlags{O_RDONLY | O_DIRECTORY});
    if (!opened.ok()) return;
    std::vector<std::string> names;
    (void)upper_.readdir(context, opened->file, 0, Listing::kNames, [&](const DirEntry& inside) {
      if (inside.name != "." && inside.name != "..") names.emplace_back(inside.name);
      return true;
    });
    (void)upper_.close(context, opened->file);
    for (const std::string& inside : names) {
      auto mark = upper_.lookup(context, entry->node, inside);
      if (mark.ok() &&
          (is_mark_file(inside) || is_whiteout(mark->attributes) || mark->attributes.size == 0)) {
        (void)upper_.unlink(context, entry->node, inside);
      }
    }
    (void)upper_.rmdir(context, staging, name);
  }

 private:
  Upper& upper_;
  std::atomic<std::uint64_t> names_{0};
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_DRAFTS_H_
