// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/tenant_rights.h"

#include <fmt/format.h>

#include <algorithm>

#include "services/ceph/names.h"
#include "services/ceph/tenant_errors.h"

namespace libservices::ceph_internal {
namespace {

constexpr std::size_t kLongestName = 64;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Takes what follows `key` up to the next space, or the end.
std::string take(std::string_view& text, std::string_view key) {
  if (!text.starts_with(key)) return "";
  text.remove_prefix(key.size());
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string value(text.substr(0, end));
  text.remove_prefix(end);
  return value;
}

absl::Status refused(std::string_view what, std::string_view why, std::string_view mend) {
  return tenant_failure(absl::StatusCode::kInvalidArgument, what, why, mend);
}

}  // namespace

Rights rights_of(const TenantRights& tenant) {
  // Without `p` the tenant can change neither its namespace nor its quota, without `s` it makes no
  // snapshots.
  return {.mds = fmt::format("allow rw fsname={} path={}", tenant.filesystem, tenant.directory),
          .mon = fmt::format("allow r fsname={}", tenant.filesystem),
          .osd = fmt::format("allow rw pool={} namespace={}", tenant.pool, tenant.rados_namespace)};
}

std::optional<TenantRights> tenant_of(const Rights& rights) {
  TenantRights tenant;
  std::string_view mds = rights.mds;
  tenant.filesystem = take(mds, "allow rw fsname=");
  tenant.directory = take(mds, " path=");
  std::string_view osd = rights.osd;
  tenant.pool = take(osd, "allow rw pool=");
  tenant.rados_namespace = take(osd, " namespace=");
  for (const std::string* const word :
       {&tenant.filesystem, &tenant.directory, &tenant.pool, &tenant.rados_namespace}) {
    if (!is_plain(*word)) return std::nullopt;
  }
  if (rights_of(tenant) != rights) return std::nullopt;
  return tenant;
}

// SOURCE: MDSAuthCaps.cc, OSDCap.cc: `unquoted_word`.
bool is_plain(std::string_view word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-' || c == '/';
  });
}

absl::Status check_tenant_name(std::string_view name) {
  const bool good = !name.empty() && name.size() <= kLongestName && is_plain(name) &&
                    is_letter_or_digit(name.front()) && name.find('/') == std::string_view::npos;
  if (good) return absl::OkStatus();
  return refused(fmt::format("'{}'", name), "it is no name for a tenant",
                 fmt::format("use letters, digits, '.', '_' and '-', {} at most, a letter or digit "
                             "first",
                             kLongestName));
}

absl::Status check_tenant_directory(std::string_view name, std::string_view directory) {
  if (!is_plain(directory) || !directory.starts_with('/')) {
    return refused(name, fmt::format("directory '{}': rights cannot be written for it", directory),
                   "begin it with '/', and use letters, digits, '.', '_' and '-'");
  }
  if (directory == "/") {
    return refused(name, "directory /: it holds all tenants", "name one below it");
  }
  for (std::string_view rest = directory; !rest.empty();) {
    rest.remove_prefix(1);
    const std::string_view part = rest.substr(0, rest.find('/'));
    if (part == ".snap" || !Name::of(part).ok()) {
      return refused(name, fmt::format("directory '{}': '{}' is no name in it", directory, part),
                     "name each directory by its own name");
    }
    rest.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

}  // namespace libservices::ceph_internal
