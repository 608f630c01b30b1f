// SPDX-License-Identifier: Apache-2.0
//
// Where the objects of a union stand in its tree: the parent and the name of their records, as they
// were last seen. Of a file with several names it is one of them.
//
// THREADS: all functions at once; each holds one Record::mutex at a time.
#ifndef LIBSERVICES_SERVICES_UNION_PLACES_H_
#define LIBSERVICES_SERVICES_UNION_PLACES_H_

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "services/union/records.h"

namespace libservices::union_internal {

template <class R>
void place(const std::shared_ptr<R>& record, const std::shared_ptr<R>& parent,
           std::string_view name) {
  std::lock_guard lock(record->mutex);
  record->parent = parent;
  record->name.assign(name);
}

// `record` has lost the name.
template <class R>
void unplace(const std::shared_ptr<R>& record, const std::shared_ptr<R>& parent,
             std::string_view name) {
  std::lock_guard lock(record->mutex);
  if (record->parent == parent && record->name == name) record->parent = nullptr;
}

// Whether `at` is `ancestor` or below it.
template <class R>
bool is_within(std::shared_ptr<R> at, const std::shared_ptr<R>& ancestor) {
  while (at && at != ancestor) {
    std::shared_ptr<R> parent;
    {
      std::lock_guard lock(at->mutex);
      parent = at->parent;
    }
    at = std::move(parent);
  }
  return at != nullptr;
}

// Where the parts of an object in the lowers are, from their roots, as a redirect says it. Empty:
// it has no name any more.
template <class R>
std::string lower_path_of(const std::shared_ptr<R>& root, const std::shared_ptr<R>& parent,
                          std::string_view name);
template <class R>
std::string lower_path_of(const std::shared_ptr<R>& root, const std::shared_ptr<R>& record) {
  if (record == root) return "/";
  std::shared_ptr<R> parent;
  std::string name;
  {
    std::lock_guard lock(record->mutex);
    if (!record->redirect.empty()) return record->redirect;
    parent = record->parent;
    name = record->name;
  }
  return parent ? lower_path_of(root, parent, name) : std::string();
}
template <class R>
std::string lower_path_of(const std::shared_ptr<R>& root, const std::shared_ptr<R>& parent,
                          std::string_view name) {
  if (parent == root) return "/" + std::string(name);
  const std::string above = lower_path_of(root, parent);
  return above.empty() ? above : above + "/" + std::string(name);
}

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_PLACES_H_
