// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/tenants.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "services/ceph/client.h"
#include "services/ceph/keyring_file.h"
#include "services/ceph/monitor.h"
#include "services/ceph/names.h"
#include "services/ceph/tenant_errors.h"
#include "services/ceph/tenant_files.h"
#include "services/ceph/tenant_rights.h"

namespace libservices {
namespace {

using ceph_internal::clean;
using ceph_internal::ClientConfig;
using ceph_internal::is_in;
using ceph_internal::Monitor;
using ceph_internal::ObjectPtr;
using ceph_internal::reason_of;
using ceph_internal::Rights;
using ceph_internal::tenant_failure;
using ceph_internal::TenantFiles;
using ceph_internal::TenantRights;
using nlohmann::json;

// One of the cluster's keys, without the key.
struct KnownClient {
  std::string name;
  std::optional<TenantRights> tenant;
};

struct Filesystem {
  std::string name;
  std::vector<std::pair<std::string, std::string>> pools;  // of data: number, name
};

class Tenants final : public CephTenants {
 public:
  Tenants(ClientConfig config, std::unique_ptr<Monitor> monitor)
      : config_(std::move(config)), monitor_(std::move(monitor)) {}

  absl::StatusOr<CephTenant> add(const NewCephTenant& wanted) override {
    return guarded<CephTenant>([&] { return add_one(wanted); });
  }
  absl::StatusOr<std::string> remove(const OldCephTenant& old) override {
    return guarded<std::string>([&] { return remove_one(old); });
  }
  absl::StatusOr<std::vector<CephTenant>> list() override {
    return guarded<std::vector<CephTenant>>([&] { return list_all(); });
  }

 private:
  // No exception leaves the plug-in.
  template <class T, class Do>
  static absl::StatusOr<T> guarded(Do action) {
    try {
      return action();
    } catch (const json::exception&) {
      return tenant_failure(absl::StatusCode::kDataLoss, "monitor", "its answer has another form",
                            "is it Ceph 16 or newer?");
    }
  }

  absl::StatusOr<CephTenant> add_one(const NewCephTenant& wanted);
  absl::StatusOr<std::string> remove_one(const OldCephTenant& old);
  absl::StatusOr<std::vector<CephTenant>> list_all();

  absl::StatusOr<Filesystem> filesystem() const;
  absl::StatusOr<std::vector<KnownClient>> clients() const;
  absl::StatusOr<std::string> keyring_of(const std::string& name) const;
  // The keyring's text, empty if there is no key yet, when nothing stands in the way.
  absl::StatusOr<std::string> check_free(const NewCephTenant& wanted, const std::string& filesystem,
                                         const std::string& directory,
                                         const std::vector<KnownClient>& all) const;
  absl::Status separate(const TenantFiles& files, const TenantFiles::Made& made,
                        const std::string& name, const std::string& directory) const;
  absl::StatusOr<std::string> pool_of(const TenantFiles& files, const ObjectPtr& directory,
                                      const Filesystem& filesystem, const std::string& name) const;
  absl::Status give_key(const std::string& name, const TenantRights& rights, bool is_there) const;
  absl::Status evict(TenantFiles& files, const std::string& filesystem,
                     const std::string& name) const;
  absl::Status remove_data(const TenantFiles& files, const std::string& name,
                           const TenantRights& rights) const;
  // Of a tenant whose key is gone: what can be known, if it is nobody else's.
  absl::StatusOr<TenantRights> left_by(const OldCephTenant& old,
                                       const std::vector<KnownClient>& all) const;
  absl::StatusOr<TenantRights> rights_to_remove(const OldCephTenant& old,
                                                const KnownClient& known) const;
  static absl::Status unknown(const std::string& name);
  CephTenant look(const TenantFiles& files, const std::string& name,
                  const TenantRights& rights) const;

  const ClientConfig config_;
  const std::unique_ptr<Monitor> monitor_;
};

const KnownClient* find(const std::vector<KnownClient>& all, const std::string& name) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.name == name; });
  return found == all.end() ? nullptr : &*found;
}

std::string namespace_for(std::string_view name, const ObjectPtr& directory) {
  return fmt::format("{}.{:x}", name, directory->number());
}

// Made from the directory's number, whatever stands before it.
bool is_namespace_of(std::string_view text, const ObjectPtr& directory) {
  const std::string end = namespace_for("", directory);
  return ceph_internal::is_plain(text) && text.size() > end.size() && text.ends_with(end);
}

absl::StatusOr<Filesystem> Tenants::filesystem() const {
  const absl::StatusOr<json> all = monitor_->ask({{"prefix", "fs ls"}});
  if (!all.ok()) return all.status();
  std::string names;
  const json* chosen = nullptr;
  for (const json& one : *all) {
    const std::string name = one.at("name");
    names += (names.empty() ? "" : ", ") + name;
    if (config_.filesystem.empty() || config_.filesystem == name) chosen = &one;
  }
  if (config_.filesystem.empty() && all->size() > 1) {
    return tenant_failure(absl::StatusCode::kInvalidArgument, "filesystem",
                          fmt::format("the cluster has {}", names), "name one by --filesystem");
  }
  if (chosen == nullptr) {
    return tenant_failure(
        absl::StatusCode::kNotFound, config_.filesystem.empty() ? "filesystem" : config_.filesystem,
        names.empty() ? "the cluster has no CephFS" : fmt::format("the cluster has {} only", names),
        names.empty() ? "make one: ceph fs volume create" : "correct --filesystem");
  }
  Filesystem found{chosen->at("name"), {}};
  const json& pools = chosen->at("data_pools");
  const json& numbers = chosen->at("data_pool_ids");
  for (std::size_t i = 0; i < pools.size(); ++i) {
    found.pools.emplace_back(std::to_string(numbers.at(i).get<std::int64_t>()), pools.at(i));
  }
  return found;
}

absl::StatusOr<std::vector<KnownClient>> Tenants::clients() const {
  const absl::StatusOr<json> all = monitor_->ask({{"prefix", "auth ls"}});
  if (!all.ok()) return all.status();
  constexpr std::string_view kKind = "client.";
  std::vector<KnownClient> found;
  for (const json& one : all->at("auth_dump")) {
    const std::string entity = one.at("entity");
    if (!entity.starts_with(kKind)) continue;
    const json& caps = one.at("caps");
    const Rights rights{caps.value("mds", ""), caps.value("mon", ""), caps.value("osd", "")};
    found.push_back({entity.substr(kKind.size()),
                     caps.size() == 3 ? ceph_internal::tenant_of(rights) : std::nullopt});
  }
  return found;
}

absl::StatusOr<std::string> Tenants::keyring_of(const std::string& name) const {
  const absl::StatusOr<json> one =
      monitor_->ask({{"prefix", "auth get"}, {"entity", "client." + name}});
  if (!one.ok()) return one.status();
  return ceph_internal::keyring_text(name, one->at(0).at("key").get<std::string>());
}

absl::StatusOr<std::string> Tenants::check_free(const NewCephTenant& wanted,
                                                const std::string& filesystem,
                                                const std::string& directory,
                                                const std::vector<KnownClient>& all) const {
  const KnownClient* const known = find(all, wanted.name);
  if (known != nullptr && !known->tenant) {
    return tenant_failure(
        absl::StatusCode::kAlreadyExists, wanted.name,
        "the cluster has a client of that name, with other rights than a tenant's",
        "choose another name, or remove that one: ceph auth rm");
  }
  if (known != nullptr &&
      (known->tenant->filesystem != filesystem || known->tenant->directory != directory)) {
    return tenant_failure(absl::StatusCode::kAlreadyExists, wanted.name,
                          fmt::format("it has {} of filesystem {}", known->tenant->directory,
                                      known->tenant->filesystem),
                          "choose another name, or remove that one first");
  }
  for (const KnownClient& other : all) {
    if (other.name == wanted.name || !other.tenant || other.tenant->filesystem != filesystem) {
      continue;
    }
    const std::string& its = other.tenant->directory;
    if (!is_in(its, directory) && !is_in(directory, its)) continue;
    return tenant_failure(
        absl::StatusCode::kAlreadyExists, wanted.name,
        fmt::format("{} is not apart from {}, which is tenant {}'s", directory, its, other.name),
        "name another directory");
  }
  std::string text;
  if (wanted.keyring_file.empty()) return text;
  if (known != nullptr) {
    absl::StatusOr<std::string> keyring = keyring_of(wanted.name);
    if (!keyring.ok()) return keyring.status();
    text = *std::move(keyring);
  }
  absl::Status free = ceph_internal::check_keyring_file(wanted.keyring_file, text);
  if (!free.ok()) return free;
  return text;
}

// Gives the directory its namespace, before there is anything in it.
absl::Status Tenants::separate(const TenantFiles& files, const TenantFiles::Made& made,
                               const std::string& name, const std::string& directory) const {
  const auto failed = [&](Errno error) {
    return tenant_failure(error, fmt::format("{}: namespace of {}", name, directory),
                          "the key needs mds 'allow *'; mend that and do it again");
  };
  const auto occupied = [&] {
    return tenant_failure(
        absl::StatusCode::kFailedPrecondition, name,
        fmt::format("{} has files, whose contents are where others can read them", directory),
        "name a directory that is empty or not there yet, and copy them into it");
  };
  const Result<std::string> present = files.text(made.directory, TenantFiles::kNamespace);
  if (!present.ok()) return failed(present.error());
  if (is_namespace_of(*present, made.directory)) return absl::OkStatus();
  if (!present->empty()) {
    return tenant_failure(absl::StatusCode::kFailedPrecondition, name,
                          fmt::format("{} has the namespace '{}', which others may have as well",
                                      directory, *present),
                          "name a directory that is empty or not there yet");
  }
  Result<bool> empty = files.is_empty(made.directory);
  if (!empty.ok()) return failed(empty.error());
  if (!*empty) return occupied();
  const Result<std::string> layout = files.text(made.directory, TenantFiles::kLayout);
  if (!layout.ok()) return failed(layout.error());
  const Result<void> set =
      files.set(made.directory, TenantFiles::kNamespace, namespace_for(name, made.directory));
  if (!set.ok()) return failed(set.error());
  if (made.is_new) return absl::OkStatus();
  empty = files.is_empty(made.directory);
  if (empty.ok() && *empty) return absl::OkStatus();
  // Somebody was faster.
  const Result<void> undone =
      files.unset(made.directory, layout->empty() ? TenantFiles::kLayout : TenantFiles::kNamespace);
  if (!undone.ok()) return failed(undone.error());
  return empty.ok() ? occupied() : failed(empty.error());
}

absl::StatusOr<std::string> Tenants::pool_of(const TenantFiles& files, const ObjectPtr& directory,
                                             const Filesystem& filesystem,
                                             const std::string& name) const {
  const Result<std::string> pool = files.text(directory, TenantFiles::kPool);
  if (!pool.ok())
    return tenant_failure(pool.error(), fmt::format("{}: its pool", name), "do it again");
  for (const auto& [number, text] : filesystem.pools) {
    if (*pool != number && *pool != text) continue;
    if (ceph_internal::is_plain(text)) return text;
    return tenant_failure(absl::StatusCode::kInvalidArgument, name,
                          fmt::format("rights cannot be written for the pool '{}'", text),
                          "use a pool whose name has letters, digits, '.', '_' and '-'");
  }
  return tenant_failure(
      absl::StatusCode::kFailedPrecondition, name,
      fmt::format("its pool '{}' is none of filesystem {}", *pool, filesystem.name),
      "correct the directory's ceph.dir.layout.pool");
}

absl::Status Tenants::give_key(const std::string& name, const TenantRights& rights,
                               bool is_there) const {
  const Rights all = ceph_internal::rights_of(rights);
  return monitor_
      ->ask({{"prefix", is_there ? "auth caps" : "auth get-or-create"},
             {"entity", "client." + name},
             {"caps", {"mds", all.mds, "mon", all.mon, "osd", all.osd}}})
      .status();
}

absl::StatusOr<CephTenant> Tenants::add_one(const NewCephTenant& wanted) {
  if (absl::Status good = ceph_internal::check_tenant_name(wanted.name); !good.ok()) return good;
  const std::string directory =
      clean(wanted.directory.empty() ? "/" + wanted.name : wanted.directory);
  if (absl::Status good = ceph_internal::check_tenant_directory(wanted.name, directory);
      !good.ok()) {
    return good;
  }
  const absl::StatusOr<Filesystem> chosen = filesystem();
  if (!chosen.ok()) return chosen.status();
  const absl::StatusOr<std::vector<KnownClient>> all = clients();
  if (!all.ok()) return all.status();
  absl::StatusOr<std::string> keyring = check_free(wanted, chosen->name, directory, *all);
  if (!keyring.ok()) return keyring.status();

  const absl::StatusOr<std::unique_ptr<TenantFiles>> mounted =
      TenantFiles::mount(config_, chosen->name);
  if (!mounted.ok()) return mounted.status();
  const TenantFiles& files = **mounted;
  const Result<TenantFiles::Made> made = files.make(directory);
  if (!made.ok()) {
    return tenant_failure(made.error(), fmt::format("{}: directory {}", wanted.name, directory),
                          made.error() == Errno{ENOTDIR}
                              ? "it leads over what is no directory; links "
                                "are not followed"
                              : "mend that and do it again");
  }
  if (absl::Status separated = separate(files, *made, wanted.name, directory); !separated.ok()) {
    return separated;
  }
  Result<void> set = files.dress(made->directory, wanted);
  if (set.ok()) set = files.sync();
  if (!set.ok()) {
    return tenant_failure(set.error(),
                          fmt::format("{}: owner, mode and quota of {}", wanted.name, directory),
                          "the key needs mds 'allow *'; mend that and do it again");
  }
  const absl::StatusOr<std::string> pool = pool_of(files, made->directory, *chosen, wanted.name);
  if (!pool.ok()) return pool.status();
  const Result<std::string> rados_namespace = files.text(made->directory, TenantFiles::kNamespace);
  if (!rados_namespace.ok()) {
    return tenant_failure(rados_namespace.error(), fmt::format("{}: its namespace", wanted.name),
                          "do it again");
  }

  const TenantRights rights{chosen->name, directory, *pool, *rados_namespace};
  const KnownClient* const known = find(*all, wanted.name);
  if (known == nullptr || known->tenant != rights) {
    if (absl::Status given = give_key(wanted.name, rights, known != nullptr); !given.ok()) {
      return given;
    }
  }
  if (!wanted.keyring_file.empty()) {
    if (keyring->empty()) keyring = keyring_of(wanted.name);
    if (!keyring.ok()) return keyring.status();
    if (absl::Status written = ceph_internal::write_keyring_file(wanted.keyring_file, *keyring);
        !written.ok()) {
      return written;
    }
  }
  return look(files, wanted.name, rights);
}

absl::Status Tenants::evict(TenantFiles& files, const std::string& filesystem,
                            const std::string& name) const {
  const absl::StatusOr<json> got = monitor_->ask({{"prefix", "fs get"}, {"fs_name", filesystem}});
  if (!got.ok()) return got.status();
  const json& map = got->at("mdsmap");
  std::size_t asked = 0;
  for (const auto& [id, mds] : map.at("info").items()) {
    if (mds.at("state") != "up:active") continue;
    const std::string daemon = mds.at("name");
    if (const Result<void> evicted = files.evict(daemon, name); !evicted.ok()) {
      return tenant_failure(evicted.error(), "mds." + daemon,
                            "it must have an admin_socket, and the key mds 'allow *'");
    }
    ++asked;
  }
  if (asked >= map.at("in").size()) return absl::OkStatus();
  return tenant_failure(absl::StatusCode::kUnavailable, filesystem,
                        "not all of its MDSs are active", "start them");
}

absl::Status Tenants::remove_data(const TenantFiles& files, const std::string& name,
                                  const TenantRights& rights) const {
  const std::string what = fmt::format("{}: files in {}", name, rights.directory);
  constexpr const char* kAgain = "mend that and do it again with --data";
  const Result<ObjectPtr> found = files.find(rights.directory);
  if (!found.ok()) {
    if (found.error() == Errno{ENOENT}) return absl::OkStatus();
    return tenant_failure(found.error(), what, kAgain);
  }
  const Result<std::string> its = files.text(*found, TenantFiles::kNamespace);
  if (!its.ok()) return tenant_failure(its.error(), what, kAgain);
  if (*its !=
      (rights.rados_namespace.empty() ? namespace_for(name, *found) : rights.rados_namespace)) {
    return tenant_failure(absl::StatusCode::kFailedPrecondition, what,
                          "they stay, for the directory was not made for this tenant",
                          "if they shall go, remove them through a mount");
  }
  Result<void> removed = files.remove(rights.directory);
  if (removed.ok()) removed = files.sync();
  if (removed.ok()) return absl::OkStatus();
  return tenant_failure(
      removed.error(), what,
      removed.error() == Errno{ENOTEMPTY}
          ? "if nobody else makes files there, remove the snapshots in its .snap, and "
            "do it again with --data"
          : kAgain);
}

absl::Status Tenants::unknown(const std::string& name) {
  return tenant_failure(
      absl::StatusCode::kNotFound, name, "there is no such tenant",
      "ceph-tenant list shows them; files that one has left are removed with --data and "
      "its --directory");
}

absl::StatusOr<TenantRights> Tenants::left_by(const OldCephTenant& old,
                                              const std::vector<KnownClient>& all) const {
  if (old.data == OldCephTenant::Data::kKeep) return unknown(old.name);
  const std::string directory = clean(old.directory.empty() ? "/" + old.name : old.directory);
  if (absl::Status good = ceph_internal::check_tenant_directory(old.name, directory); !good.ok()) {
    return good;
  }
  const absl::StatusOr<Filesystem> chosen = filesystem();
  if (!chosen.ok()) return chosen.status();
  for (const KnownClient& other : all) {
    if (!other.tenant || other.tenant->filesystem != chosen->name) continue;
    const std::string& its = other.tenant->directory;
    if (!is_in(its, directory) && !is_in(directory, its)) continue;
    return tenant_failure(absl::StatusCode::kFailedPrecondition, old.name,
                          fmt::format("{} is tenant {}'s", its, other.name), "remove that one");
  }
  return TenantRights{chosen->name, directory, "", ""};
}

absl::StatusOr<TenantRights> Tenants::rights_to_remove(const OldCephTenant& old,
                                                       const KnownClient& known) const {
  if (!known.tenant) {
    return tenant_failure(absl::StatusCode::kFailedPrecondition, old.name,
                          "it has other rights than a tenant's",
                          "if it shall go all the same: ceph auth rm");
  }
  if (!old.directory.empty() && clean(old.directory) != known.tenant->directory) {
    return tenant_failure(absl::StatusCode::kInvalidArgument, old.name,
                          fmt::format("its directory is {}", known.tenant->directory),
                          "leave out --directory");
  }
  if (!config_.filesystem.empty() && config_.filesystem != known.tenant->filesystem) {
    return tenant_failure(absl::StatusCode::kInvalidArgument, old.name,
                          fmt::format("its filesystem is {}", known.tenant->filesystem),
                          "leave out --filesystem");
  }
  return *known.tenant;
}

absl::StatusOr<std::string> Tenants::remove_one(const OldCephTenant& old) {
  if (absl::Status good = ceph_internal::check_tenant_name(old.name); !good.ok()) return good;
  const absl::StatusOr<std::vector<KnownClient>> all = clients();
  if (!all.ok()) return all.status();
  const KnownClient* const known = find(*all, old.name);
  // What was interrupted goes on without a key.
  const absl::StatusOr<TenantRights> rights =
      known != nullptr ? rights_to_remove(old, *known) : left_by(old, *all);
  if (!rights.ok()) return rights.status();
  if (known != nullptr) {
    const absl::StatusOr<json> gone =
        monitor_->ask({{"prefix", "auth rm"}, {"entity", "client." + old.name}});
    if (!gone.ok()) return gone.status();
  }
  const absl::StatusOr<std::unique_ptr<TenantFiles>> mounted =
      TenantFiles::mount(config_, rights->filesystem);
  if (known == nullptr && mounted.ok()) {
    const Result<ObjectPtr> found = (*mounted)->find(rights->directory);
    if (!found.ok() && found.error() == Errno{ENOENT}) return unknown(old.name);
  }
  const absl::Status evicted =
      mounted.ok() ? evict(**mounted, rights->filesystem, old.name) : mounted.status();
  if (!evicted.ok()) {
    return tenant_failure(
        evicted.code(), old.name,
        fmt::format("its key is taken away, but who has used it may go on for an hour, and {} is "
                    "as it was: {}",
                    rights->directory, reason_of(evicted)),
        fmt::format("when that is mended: ceph tell mds.NAME session evict auth_name={}; for the "
                    "files: ceph-tenant remove {} --data --directory {}",
                    old.name, old.name, rights->directory));
  }
  if (old.data == OldCephTenant::Data::kRemove) {
    if (absl::Status removed = remove_data(**mounted, old.name, *rights); !removed.ok()) {
      return removed;
    }
  }
  return rights->directory;
}

CephTenant Tenants::look(const TenantFiles& files, const std::string& name,
                         const TenantRights& rights) const {
  CephTenant tenant;
  tenant.name = name;
  tenant.filesystem = rights.filesystem;
  tenant.directory = rights.directory;
  tenant.pool = rights.pool;
  tenant.rados_namespace = rights.rados_namespace;
  const Result<ObjectPtr> directory = files.find(rights.directory);
  if (!directory.ok()) {
    tenant.problem = fmt::format("its directory: {}", std::strerror(directory.error().value));
    return tenant;
  }
  const Result<std::string> rados_namespace = files.text(*directory, TenantFiles::kNamespace);
  const Result<std::uint64_t> quota = files.number(*directory, TenantFiles::kQuota);
  const Result<std::uint64_t> used = files.number(*directory, TenantFiles::kUsed);
  if (!rados_namespace.ok() || !quota.ok() || !used.ok()) {
    tenant.problem = "its directory's attributes cannot be read";
    return tenant;
  }
  tenant.quota_bytes = *quota;
  tenant.used_bytes = *used;
  if (*rados_namespace != rights.rados_namespace) {
    tenant.problem = fmt::format("its directory's namespace is '{}'", *rados_namespace);
  }
  return tenant;
}

absl::StatusOr<std::vector<CephTenant>> Tenants::list_all() {
  const absl::StatusOr<std::vector<KnownClient>> all = clients();
  if (!all.ok()) return all.status();
  std::vector<CephTenant> tenants;
  std::vector<std::pair<std::string, std::unique_ptr<TenantFiles>>> mounts;
  for (const KnownClient& known : *all) {
    if (!known.tenant) continue;
    const std::string& name = known.tenant->filesystem;
    if (!config_.filesystem.empty() && config_.filesystem != name) continue;
    auto mount = std::find_if(mounts.begin(), mounts.end(),
                              [&](const auto& one) { return one.first == name; });
    if (mount == mounts.end()) {
      absl::StatusOr<std::unique_ptr<TenantFiles>> mounted = TenantFiles::mount(config_, name);
      if (!mounted.ok()) return mounted.status();
      mount = mounts.insert(mounts.end(), {name, *std::move(mounted)});
    }
    tenants.push_back(look(*mount->second, known.name, *known.tenant));
  }
  std::sort(tenants.begin(), tenants.end(), [](const CephTenant& a, const CephTenant& b) {
    return std::tie(a.filesystem, a.name) < std::tie(b.filesystem, b.name);
  });
  return tenants;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CephTenants>> connect_ceph_tenants(const CephAdministrator& who) {
  ClientConfig config;
  config.conf_file = who.conf_file;
  config.client = who.client;
  config.key_file = who.key_file;
  config.filesystem = who.filesystem;
  absl::StatusOr<std::unique_ptr<Monitor>> monitor = Monitor::connect(config);
  if (!monitor.ok()) return monitor.status();
  return std::make_unique<Tenants>(std::move(config), *std::move(monitor));
}

}  // namespace libservices
