// SPDX-License-Identifier: Apache-2.0
//
// The command line: what is written there becomes a HostConfig or a run directory for a verb.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/host.h"
#include "src/cli/ceph_tenant.h"
#include "src/cli/mount.h"
#include "src/cli/program.h"
#include "src/cli/verbs.h"
#include "src/cli/words.h"
#include "src/host/mount_services.h"
#include "src/host/mountinfo.h"
#include "src/host/run_directory.h"

namespace libservices {
namespace {

constexpr char kVersion[] = "libservices 0.1.0";

constexpr char kDescription[] =
    "Programs on filesystems at user level, over shared memory and without a mount of the kernel.";

constexpr char kFooter[] =
    R"(A SPEC names a composition of libservices: local:/srv/data, or
union(local:/srv/upper, local:/srv/image), with options as union(…, key=value).
A path with , ( ) or a space stands in "…".

Exit status: the program's (128 + the signal that killed it); 125 for a failure
of libservices itself, 126 for a program that cannot be run, 127 for one that
is not found.)";

absl::StatusOr<std::vector<HostConfig::Mount>> mounts_of(const cli::Words& words) {
  absl::StatusOr<cli::FuseWords> fuse = cli::fuse_words(words.fuse_options);
  if (!fuse.ok()) return fuse.status();
  if (!fuse->pool.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "option pool={}: it is for `libservices mount` (write --pool {})", fuse->pool, fuse->pool));
  }
  if (fuse->supervise) {
    return absl::InvalidArgumentError(
        "option supervise: it is for `libservices mount` (write --supervise)");
  }
  std::vector<HostConfig::Mount> mounts;
  for (const std::string& word : words.mounts) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == word.size()) {
      return absl::InvalidArgumentError(
          fmt::format("mount '{}': it is no PATH=SPEC (write for example "
                      "/mnt/x=local:/srv/data)",
                      word));
    }
    mounts.push_back({word.substr(0, equals), word.substr(equals + 1)});
    if (words.fuse) mounts.back().fuse = fuse->fuse;
  }
  return mounts;
}

absl::StatusOr<std::string> run_directory_of(const cli::Words& words) {
  if (!words.run_directory.empty()) return words.run_directory;
  return host::run_directory_of(words.pool);
}

// A pool may be named by one of its mounts, too.
absl::StatusOr<std::string> running_directory_of(const cli::Words& words) {
  if (!words.run_directory.empty() || !words.pool.starts_with('/')) return run_directory_of(words);
  const auto service = host::service_of_mount(host::real_mount_path(words.pool), ::geteuid());
  if (service) return service->run_directory;
  return absl::NotFoundError(fmt::format(
      "pool {}: no service of this user or of root has a mount there (mount it, or name "
      "its pool)",
      words.pool));
}

HostConfig limits_of(const cli::Words& words) {
  HostConfig config;
  const bool all = words.clients.empty() ? ::geteuid() == 0 : words.clients == "all";
  config.clients = all ? HostConfig::Clients::kAllUsers : HostConfig::Clients::kOwnUser;
  config.pool = words.pool;
  config.most_workers = words.workers;
  config.most_sessions = words.sessions;
  config.most_open_files = words.open_files;
  config.threads =
      words.threads == "free" ? HostConfig::Threads::kFree : HostConfig::Threads::kBound;
  config.restart_wait = std::chrono::milliseconds(static_cast<long>(words.restart_wait * 1000));
  config.stop_grace = std::chrono::milliseconds(static_cast<long>(words.stop_grace * 1000));
  if (words.supervise) config.most_stuck_calls = cli::kMostStuckCalls;
  config.run_directory = words.run_directory;
  return config;
}

absl::StatusOr<HostConfig> config_of(const cli::Words& words) {
  HostConfig config = limits_of(words);
  absl::StatusOr<std::vector<HostConfig::Mount>> mounts = mounts_of(words);
  if (!mounts.ok()) return mounts.status();
  config.mounts = *std::move(mounts);
  return config;
}

int fail(const absl::Status& status) {
  cli::complain(status);
  return cli::kOwnFailure;
}

int serve(const cli::Words& words, const Catalog& catalog) {
  absl::StatusOr<HostConfig> config = config_of(words);
  if (!config.ok()) return fail(config.status());
  absl::StatusOr<std::string> directory = run_directory_of(words);
  if (!directory.ok()) return fail(directory.status());
  config->run_directory = *std::move(directory);
  return cli::serve(*std::move(config), catalog, words.ready_descriptor, words.supervise);
}

int with(const cli::Words& words, const Catalog& catalog, const std::vector<std::string>& program) {
  absl::StatusOr<HostConfig> config = config_of(words);
  if (!config.ok()) return fail(config.status());
  config->pool = "with";
  return cli::with(*std::move(config), catalog, program);
}

int mount(const cli::Words& words, const Catalog& catalog) {
  absl::StatusOr<cli::FuseWords> fuse = cli::fuse_words(words.fuse_options);
  if (!fuse.ok()) return fail(fuse.status());
  cli::MountWords mount{.spec = words.spec,
                        .path = words.paths.front(),
                        .pool = words.mount_pool.empty() ? fuse->pool : words.mount_pool,
                        .fuse = std::move(fuse->fuse)};
  if (words.foreground) mount.place = daemon::Place::kForeground;
  HostConfig limits = limits_of(words);
  if (fuse->supervise) limits.most_stuck_calls = cli::kMostStuckCalls;
  return cli::mount(std::move(mount), std::move(limits), catalog);
}

int tune(cli::Words& words) {
  if (words.tune.file.empty() || words.tune.file.front() != '/') {
    return fail(absl::InvalidArgumentError(
        fmt::format("copy table '{}': it is not absolute (begin it with /)", words.tune.file)));
  }
  if (words.show) words.tune.action = cli::TuneWords::Action::kShow;
  if (words.json) words.tune.form = cli::StatusForm::kJson;
  return cli::tune(words.tune);
}

struct Verb {
  const char* name;
  const char* about;
  void (*add)(CLI::App&, cli::Words&);
};

constexpr Verb kVerbs[] = {
    {"with", "a private service for one program, stopped with it",
     [](CLI::App& verb, cli::Words& words) {
       cli::add_mounts(verb, words);
       cli::add_fuse(verb, words);
       cli::add_run_directory(verb, words);
       cli::add_limits(verb, words);
       cli::add_program(verb, words);
     }},
    {"serve", "a service in the foreground, until SIGTERM or SIGINT",
     [](CLI::App& verb, cli::Words& words) {
       cli::add_mounts(verb, words);
       cli::add_fuse(verb, words);
       cli::add_pool(verb, words);
       cli::add_limits(verb, words);
       cli::add_restart(verb, words);
       verb.add_option("--ready", words.ready_descriptor,
                       "a descriptor that gets a newline when programs can connect")
           ->type_name("NUMBER");
     }},
    {"mount", "a filesystem at a path, by a service in the background",
     [](CLI::App& verb, cli::Words& words) {
       cli::add_mount(verb, words);
       cli::add_limits(verb, words);
       cli::add_restart(verb, words);
     }},
    {"umount", "the end of such a mount, when all is written",
     [](CLI::App& verb, cli::Words& words) {
       verb.add_option("path", words.paths, "the mounts")->required()->type_name("PATH...");
       verb.add_flag("-l,--lazy", words.lazy,
                     "who uses the mount keeps it until the last one lets go");
     }},
    {"run", "a program that uses a running service",
     [](CLI::App& verb, cli::Words& words) {
       cli::add_pool(verb, words);
       cli::add_program(verb, words);
     }},
    {"status", "what a running service does",
     [](CLI::App& verb, cli::Words& words) {
       cli::add_pool(verb, words);
       verb.add_flag("--json", words.json, "for machines");
     }},
    {"tune", "measures how this processor copies best, for the services that start later",
     [](CLI::App& verb, cli::Words& words) { cli::add_tuning(verb, words); }},
    {"check", "how many files of an upper have content in its lowers, while no service runs on it",
     [](CLI::App& verb, cli::Words& words) {
       verb.add_option("spec", words.specs, "the compositions")->required()->type_name("SPEC...");
       verb.add_flag("--complete", words.complete,
                     "make those files whole, so that the kernel's overlayfs can have the upper");
     }},
    {"ceph-tenant", "tenants of a CephFS: each has its directory, its namespace and its key",
     [](CLI::App& verb, cli::Words& words) { cli::add_ceph_tenants(verb, words.ceph_tenant); }},
};

}  // namespace

int command(int argc, char** argv, const Catalog& catalog) {
  std::vector<std::string_view> names;
  for (const Verb& verb : kVerbs) names.push_back(verb.name);
  if (std::optional<int> status = cli::mount_program(argc, argv, names, catalog)) return *status;
  std::vector<std::string> before(argv + std::min(argc, 1), argv + argc);
  std::vector<std::string> program;
  // What stands behind the first "--" is the program's, whatever it looks like.
  const auto mark = std::find(before.begin(), before.end(), "--");
  const bool marked = mark != before.end();
  if (marked) {
    program.assign(mark + 1, before.end());
    before.erase(mark, before.end());
  }

  cli::Words words;
  CLI::App app(kDescription, "libservices");
  app.footer(std::string(kFooter) + "\n\nCompositions: " + [&] {
    std::string all;
    for (const std::string& pattern : catalog.patterns()) {
      all += (all.empty() ? "" : ", ") + pattern;
    }
    return all;
  }());
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);

  // Only the verb that is used gets its options: `run` starts with every program.
  std::map<std::string_view, CLI::App*> verbs;
  for (const Verb& verb : kVerbs) {
    CLI::App* const made = app.add_subcommand(verb.name, verb.about);
    verbs[verb.name] = made;
    if (std::find(before.begin(), before.end(), verb.name) != before.end()) verb.add(*made, words);
  }
  const auto parsed = [&](std::string_view verb) { return verbs.at(verb)->parsed(); };

  try {
    std::reverse(before.begin(), before.end());
    app.parse(std::move(before));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    cli::complain(fmt::format("command line: {} (see libservices --help)", error.what()));
    return cli::kOwnFailure;
  }
  for (const char* name : {"with", "run"}) {
    if (!parsed(name)) continue;
    std::vector<std::string> first = verbs.at(name)->remaining();
    if (!first.empty()) {
      if (marked) first.emplace_back("--");
      program.insert(program.begin(), first.begin(), first.end());
    }
    if (program.empty()) {
      cli::complain("command line: no program is named (write it last: -- PROGRAM ARGUMENT...)");
      return cli::kOwnFailure;
    }
  }
  if (words.strict) ::setenv("LIBSERVICES_STRICT", "1", 1);
  if (words.report) ::setenv("LIBSERVICES_REPORT", "1", 1);
  if (parsed("with")) return with(words, catalog, program);
  if (parsed("serve")) return serve(words, catalog);
  if (parsed("mount")) return mount(words, catalog);
  if (parsed("umount")) {
    return cli::umount(words.paths, words.lazy ? fuse::Detach::kLazily : fuse::Detach::kWhenUnused);
  }
  if (parsed("tune")) return tune(words);
  if (parsed("check")) {
    return cli::check(catalog, words.specs,
                      words.complete ? cli::CheckAction::kComplete : cli::CheckAction::kCount);
  }
  if (parsed("ceph-tenant")) {
    return cli::ceph_tenant(*verbs.at("ceph-tenant"), words.ceph_tenant);
  }
  const absl::StatusOr<std::string> directory = running_directory_of(words);
  if (!directory.ok()) return fail(directory.status());
  if (parsed("run")) return cli::run(*directory, program);
  return cli::status(*directory, words.json ? cli::StatusForm::kJson : cli::StatusForm::kHuman);
}

}  // namespace libservices
