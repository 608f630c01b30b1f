// SPDX-License-Identifier: Apache-2.0
//
// The command line: what is written there becomes a HostConfig or a run directory for a verb.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ipc/copy_table_file.h"
#include "libservices/host.h"
#include "src/cli/mount.h"
#include "src/cli/program.h"
#include "src/cli/verbs.h"
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

constexpr std::string_view kVerbs[] = {"with", "serve",  "mount", "umount",
                                       "run",  "status", "tune",  "check"};

struct Words {
  std::vector<std::string> mounts;
  bool fuse = false;
  std::vector<std::string> fuse_options;
  std::string pool = "default";
  std::string run_directory;
  std::string clients;
  std::size_t workers = 0;
  std::size_t sessions = HostConfig{}.most_sessions;
  std::size_t open_files = HostConfig{}.most_open_files;
  std::string threads = "bound";
  double restart_wait = std::chrono::duration<double>(HostConfig{}.restart_wait).count();
  int ready_descriptor = -1;
  bool json = false;
  cli::TuneWords tune;
  bool show = false;
  std::vector<std::string> specs;
  bool complete = false;
  std::string spec;
  std::vector<std::string> paths;
  std::string mount_pool;
  bool foreground = false;
  bool lazy = false;
};

void add_mounts(CLI::App& verb, Words& words) {
  verb.add_option("-m,--mount", words.mounts,
                  "PATH=SPEC: the filesystem SPEC appears at PATH, which need not exist. PATH is "
                  "absolute; where it does not exist, a listing of its parent does not show it. "
                  "May be given more than once")
      ->required()
      ->type_name("PATH=SPEC")
      ->allow_extra_args(false);
}

CLI::Option* add_fuse_options(CLI::App& verb, Words& words, const std::string& names) {
  return verb
      .add_option(names, words.fuse_options,
                  "of the mount at the kernel: ro, allow_other (usual for root), allow_self, "
                  "writeback, nopassthrough, fsname=NAME, and mount(8)'s nodev, nosuid, noexec, "
                  "noatime, ...")
      ->type_name("OPTION,...")
      ->allow_extra_args(false);
}

void add_fuse(CLI::App& verb, Words& words) {
  CLI::Option* const fuse =
      verb.add_flag("--fuse", words.fuse,
                    "mount the filesystems at the kernel, too, for programs that cannot be "
                    "preloaded: static ones, set-user-id ones, Go's");
  add_fuse_options(verb, words, "-o,--fuse-options")->needs(fuse);
}

CLI::Option* add_run_directory(CLI::App& verb, Words& words) {
  return verb
      .add_option("--run-directory", words.run_directory,
                  "where the service and its programs meet, instead of the usual place")
      ->type_name("DIRECTORY");
}

void add_pool(CLI::App& verb, Words& words) {
  verb.add_option("-p,--pool", words.pool, "the pool's name, or, of a running one, a mount's path")
      ->capture_default_str();
  add_run_directory(verb, words)->envname("LIBSERVICES_RUN_DIRECTORY");
}

void add_mount(CLI::App& verb, Words& words) {
  verb.add_option("spec", words.spec, "the filesystem")->required()->type_name("SPEC");
  verb.add_option("path", words.paths, "where; made, and removed at the end, if it does not exist")
      ->required()
      ->expected(1)
      ->type_name("PATH");
  add_fuse_options(verb, words, "-o,--options");
  verb.add_flag("-f,--foreground", words.foreground,
                "serve in this process, until SIGTERM or SIGINT or the mount's end");
  verb.add_option("-p,--pool", words.mount_pool,
                  "the pool's name; without it one that is made of PATH");
  verb.footer(
      "As mount(8) calls it:\n  mount -t fuse.libservices SPEC PATH -o OPTION,...\nwith pool=NAME "
      "among the options.");
}

void add_limits(CLI::App& verb, Words& words) {
  verb.add_option("--clients", words.clients,
                  "whose programs may connect: own (this user's and root's) or all. Without it, "
                  "all if this user is root. Every call is checked with its caller's identity")
      ->check(CLI::IsMember({"own", "all"}));
  verb.add_option("--workers", words.workers,
                  "most threads for each group of cores; 0 lets the service choose")
      ->capture_default_str();
  verb.add_option("--threads", words.threads,
                  "bound: threads stay on the cores of their group, where there is more than one "
                  "group; free: they run anywhere")
      ->check(CLI::IsMember({"bound", "free"}))
      ->capture_default_str();
  verb.add_option("--most-sessions", words.sessions, "most processes connected at once")
      ->capture_default_str();
  verb.add_option("--most-open-files", words.open_files, "most open files of one process")
      ->capture_default_str();
}

void add_restart(CLI::App& verb, Words& words) {
  verb.add_option("--restart-wait", words.restart_wait,
                  "how long programs wait for another service when this one is killed, to go on "
                  "with their open files; 0: their calls fail at once")
      ->check(CLI::Range(0.0, 86400.0))
      ->type_name("SECONDS")
      ->capture_default_str();
}

void add_tuning(CLI::App& verb, Words& words) {
  words.tune.file = ipc::kCopyTableFile;
  verb.add_option("-o,--output", words.tune.file, "the file with the table, absolute")
      ->type_name("FILE")
      ->capture_default_str();
  verb.add_option("--seconds", words.tune.seconds, "how long to measure, 0.1 to 600")
      ->check(CLI::Range(0.1, 600.0))
      ->type_name("NUMBER")
      ->capture_default_str();
  verb.add_flag("--show", words.show, "only show the table that services use");
  verb.add_flag("--json", words.json, "for machines");
}

absl::StatusOr<std::vector<HostConfig::Mount>> mounts_of(const Words& words) {
  absl::StatusOr<cli::FuseWords> fuse = cli::fuse_words(words.fuse_options);
  if (!fuse.ok()) return fuse.status();
  if (!fuse->pool.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "option pool={}: it is for `libservices mount` (write --pool {})", fuse->pool, fuse->pool));
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

absl::StatusOr<std::string> run_directory_of(const Words& words) {
  if (!words.run_directory.empty()) return words.run_directory;
  return host::run_directory_of(words.pool);
}

// A pool may be named by one of its mounts, too.
absl::StatusOr<std::string> running_directory_of(const Words& words) {
  if (!words.run_directory.empty() || !words.pool.starts_with('/')) return run_directory_of(words);
  const auto service = host::service_of_mount(host::real_mount_path(words.pool), ::geteuid());
  if (service) return service->run_directory;
  return absl::NotFoundError(fmt::format(
      "pool {}: no service of this user or of root has a mount there (mount it, or name "
      "its pool)",
      words.pool));
}

HostConfig limits_of(const Words& words) {
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
  config.run_directory = words.run_directory;
  return config;
}

absl::StatusOr<HostConfig> config_of(const Words& words) {
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

int serve(const Words& words, const Catalog& catalog) {
  absl::StatusOr<HostConfig> config = config_of(words);
  if (!config.ok()) return fail(config.status());
  absl::StatusOr<std::string> directory = run_directory_of(words);
  if (!directory.ok()) return fail(directory.status());
  config->run_directory = *std::move(directory);
  return cli::serve(*std::move(config), catalog, words.ready_descriptor);
}

int with(const Words& words, const Catalog& catalog, const std::vector<std::string>& program) {
  absl::StatusOr<HostConfig> config = config_of(words);
  if (!config.ok()) return fail(config.status());
  config->pool = "with";
  return cli::with(*std::move(config), catalog, program);
}

int mount(const Words& words, const Catalog& catalog) {
  absl::StatusOr<cli::FuseWords> fuse = cli::fuse_words(words.fuse_options);
  if (!fuse.ok()) return fail(fuse.status());
  cli::MountWords mount{.spec = words.spec,
                        .path = words.paths.front(),
                        .pool = words.mount_pool.empty() ? fuse->pool : words.mount_pool,
                        .fuse = std::move(fuse->fuse)};
  if (words.foreground) mount.place = daemon::Place::kForeground;
  return cli::mount(std::move(mount), limits_of(words), catalog);
}

int tune(Words& words) {
  if (words.tune.file.empty() || words.tune.file.front() != '/') {
    return fail(absl::InvalidArgumentError(
        fmt::format("copy table '{}': it is not absolute (begin it with /)", words.tune.file)));
  }
  if (words.show) words.tune.action = cli::TuneWords::Action::kShow;
  if (words.json) words.tune.form = cli::StatusForm::kJson;
  return cli::tune(words.tune);
}

}  // namespace

int command(int argc, char** argv, const Catalog& catalog) {
  if (std::optional<int> status = cli::mount_program(argc, argv, kVerbs, catalog)) return *status;
  std::vector<std::string> before(argv + std::min(argc, 1), argv + argc);
  std::vector<std::string> program;
  // What stands behind the first "--" is the program's, whatever it looks like.
  const auto mark = std::find(before.begin(), before.end(), "--");
  const bool marked = mark != before.end();
  if (marked) {
    program.assign(mark + 1, before.end());
    before.erase(mark, before.end());
  }

  Words words;
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

  CLI::App* with_verb =
      app.add_subcommand("with", "a private service for one program, stopped with it");
  add_mounts(*with_verb, words);
  add_fuse(*with_verb, words);
  add_run_directory(*with_verb, words);
  add_limits(*with_verb, words);
  CLI::App* serve_verb =
      app.add_subcommand("serve", "a service in the foreground, until SIGTERM or SIGINT");
  add_mounts(*serve_verb, words);
  add_fuse(*serve_verb, words);
  add_pool(*serve_verb, words);
  add_limits(*serve_verb, words);
  add_restart(*serve_verb, words);
  serve_verb
      ->add_option("--ready", words.ready_descriptor,
                   "a descriptor that gets a newline when programs can connect")
      ->type_name("NUMBER");
  CLI::App* mount_verb =
      app.add_subcommand("mount", "a filesystem at a path, by a service in the background");
  add_mount(*mount_verb, words);
  add_limits(*mount_verb, words);
  add_restart(*mount_verb, words);
  CLI::App* umount_verb =
      app.add_subcommand("umount", "the end of such a mount, when all is written");
  umount_verb->add_option("path", words.paths, "the mounts")->required()->type_name("PATH...");
  umount_verb->add_flag("-l,--lazy", words.lazy,
                        "who uses the mount keeps it until the last one lets go");
  CLI::App* run_verb = app.add_subcommand("run", "a program that uses a running service");
  add_pool(*run_verb, words);
  CLI::App* status_verb = app.add_subcommand("status", "what a running service does");
  add_pool(*status_verb, words);
  status_verb->add_flag("--json", words.json, "for machines");
  CLI::App* tune_verb = app.add_subcommand(
      "tune", "measures how this processor copies best, for the services that start later");
  add_tuning(*tune_verb, words);
  CLI::App* check_verb = app.add_subcommand(
      "check",
      "how many files of an upper have content in its lowers, while no service runs on it");
  check_verb->add_option("spec", words.specs, "the compositions")->required()->type_name("SPEC...");
  check_verb->add_flag("--complete", words.complete,
                       "make those files whole, so that the kernel's overlayfs can have the upper");
  for (CLI::App* verb : {with_verb, run_verb}) {
    verb->prefix_command();
    verb->footer(
        fmt::format("The program stands last:\n  libservices {} [OPTIONS] [--] PROGRAM "
                    "[ARGUMENT...]",
                    verb->get_name()));
  }

  try {
    std::reverse(before.begin(), before.end());
    app.parse(std::move(before));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    cli::complain(fmt::format("command line: {} (see libservices --help)", error.what()));
    return cli::kOwnFailure;
  }
  for (CLI::App* verb : {with_verb, run_verb}) {
    if (!verb->parsed()) continue;
    std::vector<std::string> first = verb->remaining();
    if (!first.empty()) {
      if (marked) first.emplace_back("--");
      program.insert(program.begin(), first.begin(), first.end());
    }
    if (program.empty()) {
      cli::complain("command line: no program is named (write it last: -- PROGRAM ARGUMENT...)");
      return cli::kOwnFailure;
    }
  }
  if (with_verb->parsed()) return with(words, catalog, program);
  if (serve_verb->parsed()) return serve(words, catalog);
  if (mount_verb->parsed()) return mount(words, catalog);
  if (umount_verb->parsed()) {
    return cli::umount(words.paths, words.lazy ? fuse::Detach::kLazily : fuse::Detach::kWhenUnused);
  }
  if (tune_verb->parsed()) return tune(words);
  if (check_verb->parsed()) {
    return cli::check(catalog, words.specs,
                      words.complete ? cli::CheckAction::kComplete : cli::CheckAction::kCount);
  }
  const absl::StatusOr<std::string> directory = running_directory_of(words);
  if (!directory.ok()) return fail(directory.status());
  if (run_verb->parsed()) return cli::run(*directory, program);
  return cli::status(*directory, words.json ? cli::StatusForm::kJson : cli::StatusForm::kHuman);
}

}  // namespace libservices
