// SPDX-License-Identifier: Apache-2.0
//
// What the tests of access control lists need: their values, and ways to set and get them.
#ifndef LIBSERVICES_TESTS_FILESYSTEM_LISTS_H_
#define LIBSERVICES_TESTS_FILESYSTEM_LISTS_H_

#include <cstring>
#include <string_view>
#include <vector>

#include "libservices/access_list.h"
#include "tests/filesystem/stacks.h"

namespace libservices::testing {

using Entry = AccessList::Entry;
using Tags = AccessList;
inline constexpr std::string_view kAccess = AccessList::kNames[0];
inline constexpr std::string_view kDefault = AccessList::kNames[1];
inline constexpr std::uint32_t kAlice = 1000;
inline constexpr std::uint32_t kBob = 1001;
inline constexpr std::uint32_t kBobsGroup = 2000;

inline std::vector<std::byte> value_of(const std::vector<Entry>& entries) {
  std::vector<std::byte> value(4 + entries.size() * sizeof(Entry));
  const std::uint32_t version = 2;
  std::memcpy(value.data(), &version, 4);
  std::memcpy(value.data() + 4, entries.data(), entries.size() * sizeof(Entry));
  return value;
}

// Owner, `named` with its id, owning group, mask and others.
inline std::vector<std::byte> with_one(std::uint16_t owner, const Entry& named, std::uint16_t group,
                                       std::uint16_t mask, std::uint16_t other) {
  std::vector<Entry> entries{{Tags::kOwner, owner}};
  if (named.tag == Tags::kUser) entries.push_back(named);
  entries.push_back({Tags::kOwningGroup, group});
  if (named.tag == Tags::kGroup) entries.push_back(named);
  entries.push_back({Tags::kMask, mask});
  entries.push_back({Tags::kOther, other});
  return value_of(entries);
}

template <class Sut>
int set(Sut& sut, const Context& who, const Location& at, std::string_view name,
        const std::vector<std::byte>& value) {
  return error_of(sut->setxattr(who, at, name, value, XattrMode::kCreateOrReplace));
}

// Its entries; empty: there is none.
template <class Sut>
std::vector<Entry> list_of(Sut& sut, const Location& at, std::string_view name) {
  std::vector<std::byte> room(1000);
  auto size = sut->getxattr(sut.root, at, name, room);
  if (!size.ok()) {
    CHECK(error_of(size) == ENODATA);
    return {};
  }
  auto list = AccessList::parse(std::span(room).first(*size));
  REQUIRE(list.ok());
  return list->entries();
}

template <class Sut>
int opens(Sut& sut, const Context& who, const Location& at, int flags) {
  auto file = sut->open(who, at, {flags}, 0);
  if (file.ok()) sut.close(*file);
  return error_of(file);
}

// Whether the stack keeps lists at all: a host's filesystem may not.
#define LIBSERVICES_LISTS_SUT(S)                                           \
  LIBSERVICES_SUT(S);                                                      \
  if (error_of(sut->removexattr(sut.root, "/", kAccess)) == EOPNOTSUPP) {  \
    MESSAGE("SKIPPED: the host's filesystem has no access control lists"); \
    return;                                                                \
  }

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FILESYSTEM_LISTS_H_
