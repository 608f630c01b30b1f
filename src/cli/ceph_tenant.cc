// SPDX-License-Identifier: Apache-2.0
#include "src/cli/ceph_tenant.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "src/cli/program.h"
#include "src/host/ceph_plugin.h"

namespace libservices::cli {
namespace {

using nlohmann::json;

// Nothing for what is no number of that base, from 0 to `most`.
std::optional<std::uint32_t> number(std::string_view text, int base, std::uint32_t most) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc{} || end != text.data() + text.size() || number > most) {
    return std::nullopt;
  }
  return number;
}

absl::Status no_such(std::string_view option, std::string_view value, std::string_view mend) {
  return absl::InvalidArgumentError(
      fmt::format("ceph-tenant: {} '{}': it cannot be understood ({})", option, value, mend));
}

absl::Status read_owner_and_mode(const CephTenantWords& words, NewCephTenant& into) {
  constexpr std::uint32_t kMost = std::numeric_limits<std::uint32_t>::max() - 1;  // -1 is nobody
  constexpr std::uint32_t kModes = 07777;
  if (!words.mode.empty()) {
    into.mode = number(words.mode, 8, kModes);
    if (!into.mode) return no_such("--mode", words.mode, "write it in octal: 0750");
  }
  if (!words.owner.empty()) {
    const std::string_view text = words.owner;
    const std::size_t colon = text.find(':');
    into.uid = number(text.substr(0, colon), 10, kMost);
    if (colon != std::string_view::npos) into.gid = number(text.substr(colon + 1), 10, kMost);
    if (!into.uid || (colon != std::string_view::npos && !into.gid)) {
      return no_such("--owner", text, "write numbers: UID or UID:GID");
    }
  }
  return absl::OkStatus();
}

int fail(const absl::Status& status) {
  complain(status);
  return kOwnFailure;
}

std::string quota_of(const CephTenant& tenant) {
  return tenant.quota_bytes == 0 ? "none" : std::to_string(tenant.quota_bytes);
}

int add(CephTenants& tenants, const NewCephTenant& wanted) {
  const absl::StatusOr<CephTenant> added = tenants.add(wanted);
  if (!added.ok()) return fail(added.status());
  fmt::print("{}: directory {}, pool {}, namespace {}, quota {}\n", added->name, added->directory,
             added->pool, added->rados_namespace, quota_of(*added));
  fmt::print(
      "SPEC: ceph:{}(root={}, client={}, key={})\n", added->directory, added->directory,
      added->name,
      wanted.keyring_file.empty() ? "FILE, which --keyring FILE writes" : wanted.keyring_file);
  return 0;
}

int remove(CephTenants& tenants, const OldCephTenant& old) {
  const absl::StatusOr<std::string> directory = tenants.remove(old);
  if (!directory.ok()) return fail(directory.status());
  if (old.data == OldCephTenant::Data::kRemove) {
    fmt::print("{}: removed, with {}\n", old.name, *directory);
  } else {
    fmt::print("{}: removed; its files are in {}\n", old.name, *directory);
  }
  return 0;
}

int list(CephTenants& tenants, StatusForm form) {
  const absl::StatusOr<std::vector<CephTenant>> all = tenants.list();
  if (!all.ok()) return fail(all.status());
  if (form == StatusForm::kJson) {
    json array = json::array();
    for (const CephTenant& one : *all) {
      array.push_back({{"name", one.name},
                       {"filesystem", one.filesystem},
                       {"directory", one.directory},
                       {"pool", one.pool},
                       {"namespace", one.rados_namespace},
                       {"quota_bytes", one.quota_bytes},
                       {"used_bytes", one.used_bytes},
                       {"problem", one.problem}});
    }
    fmt::print("{}\n", array.dump(2));
    return 0;
  }
  std::size_t names = 4;
  std::size_t directories = 9;
  std::size_t spaces = 9;
  for (const CephTenant& one : *all) {
    names = std::max(names, one.name.size());
    directories = std::max(directories, one.directory.size());
    spaces = std::max(spaces, one.rados_namespace.size());
  }
  const auto row = [&](std::string_view name, std::string_view directory, std::string_view space,
                       std::string_view quota, std::string_view used, std::string_view problem) {
    fmt::print("{:{}}  {:{}}  {:{}}  {:>14}  {:>14}{}{}\n", name, names, directory, directories,
               space, spaces, quota, used, problem.empty() ? "" : "  ", problem);
  };
  row("name", "directory", "namespace", "quota", "used", "");
  for (const CephTenant& one : *all) {
    row(one.name, one.directory, one.rados_namespace, quota_of(one), std::to_string(one.used_bytes),
        one.problem);
  }
  return 0;
}

void add_administrator(CLI::App& verb, CephAdministrator& who) {
  verb.add_option("--conf", who.conf_file,
                  "the cluster's ceph.conf; without it $CEPH_CONF, or /etc/ceph/ceph.conf")
      ->type_name("FILE");
  verb.add_option("--client", who.client, "as whom: one who may do all, without the \"client.\"")
      ->type_name("NAME")
      ->capture_default_str();
  verb.add_option("--key", who.key_file, "its keyring; without it as ceph.conf says")
      ->type_name("FILE");
  verb.add_option("--filesystem", who.filesystem, "where the cluster has several")
      ->type_name("NAME");
}

CLI::App& add_action(CLI::App& verb, const char* name, const char* about, CephTenantWords& words) {
  CLI::App* const action = verb.add_subcommand(name, about);
  add_administrator(*action, words.who);
  return *action;
}

}  // namespace

void add_ceph_tenants(CLI::App& verb, CephTenantWords& words) {
  verb.require_subcommand(1);
  CLI::App& add = add_action(
      verb, "add", "a directory, its RADOS namespace, and a key that reaches these alone", words);
  add.add_option("name", words.fresh.name, "the tenant's")->required()->type_name("NAME");
  add.add_option("-d,--directory", words.fresh.directory,
                 "made if it is not there; empty if it is. Without it /NAME")
      ->type_name("DIRECTORY");
  add.add_option("--owner", words.owner, "of the directory, in numbers; root's if it is made")
      ->type_name("UID[:GID]");
  add.add_option("--mode", words.mode, "of the directory, in octal; 0755 if it is made")
      ->type_name("MODE");
  add.add_option("-s,--size", words.size,
                 "the quota of the directory, K, M, G and T are taken; 0: none")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES");
  add.add_option("-k,--keyring", words.fresh.keyring_file,
                 "gets the key, for its owner alone; a file that is not there yet")
      ->type_name("FILE");
  add.footer("Doing it again is harmless, and completes what was interrupted.");
  CLI::App& remove =
      add_action(verb, "remove", "takes the key away, and ends the sessions of who has it", words);
  remove.add_option("name", words.old.name, "the tenant's")->required()->type_name("NAME");
  remove.add_flag("--data", words.data, "removes the directory with all files, too");
  remove
      .add_option("-d,--directory", words.old.directory,
                  "for --data, where the key is gone already. Without it /NAME")
      ->type_name("DIRECTORY");
  CLI::App& list =
      add_action(verb, "list", "the tenants, their directories, namespaces and quotas", words);
  list.add_flag("--json", words.json, "for machines");
}

int ceph_tenant(const CLI::App& verb, CephTenantWords& words) {
  const CLI::App* const action = verb.get_subcommands().front();
  if (action->get_name() == "add") {
    if (absl::Status read = read_owner_and_mode(words, words.fresh); !read.ok()) return fail(read);
    if (action->count("--size") != 0) words.fresh.quota_bytes = words.size;
  }
  if (words.data) words.old.data = OldCephTenant::Data::kRemove;
  const absl::StatusOr<const host::CephPlugin*> plugin = host::ceph_plugin();
  if (!plugin.ok()) return fail(plugin.status());
  absl::StatusOr<std::unique_ptr<CephTenants>> tenants = absl::UnknownError("");
  (*plugin)->connect_tenants(words.who, tenants);
  if (!tenants.ok()) return fail(tenants.status());
  if (action->get_name() == "add") return add(**tenants, words.fresh);
  if (action->get_name() == "remove") return remove(**tenants, words.old);
  return list(**tenants, words.json ? StatusForm::kJson : StatusForm::kHuman);
}

}  // namespace libservices::cli
