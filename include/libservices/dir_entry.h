// SPDX-License-Identifier: Apache-2.0
//
// One entry of a directory listing, and the receiver that a listing is given to.
#ifndef LIBSERVICES_DIR_ENTRY_H_
#define LIBSERVICES_DIR_ENTRY_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

#include "libservices/attributes.h"

namespace libservices {

struct DirEntry {
  std::string_view name;     // valid during the call of the receiver only
  std::uint64_t inode = 0;
  std::uint8_t type = 0;     // DT_REG, DT_DIR, … of <dirent.h>; DT_UNKNOWN where it is not known
  std::uint64_t cookie = 0;  // a later listing that starts `after` it goes on behind this entry
  const Attributes* attributes = nullptr;  // null where the listing did not have them at hand
};

// How much of each entry the caller will use.
enum class Listing : std::uint8_t {
  kNames,       // names, types and inode numbers
  kAttributes,  // attributes too, if that costs less than asking for each entry by itself
};

// Refers to a callable `bool(const DirEntry&)` without owning it: true asks for the next entry,
// false stops the listing; the refused entry comes first in the next one.
// WARNING: the callable must outlive the call it is passed to. Never store an EntrySink.
class EntrySink {
 public:
  template <class Callable>
    requires(!std::is_same_v<std::remove_cvref_t<Callable>, EntrySink> &&
             std::is_invocable_r_v<bool, Callable&, const DirEntry&>)
  EntrySink(Callable&& callable)  // NOLINT(google-explicit-constructor): lambdas are passed in
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, const DirEntry& entry) {
          return static_cast<bool>((*static_cast<std::remove_reference_t<Callable>*>(object))(entry));
        }) {}

  bool operator()(const DirEntry& entry) const { return call_(object_, entry); }

 private:
  void* object_;
  bool (*call_)(void*, const DirEntry&);
};

}  // namespace libservices

#endif  // LIBSERVICES_DIR_ENTRY_H_
