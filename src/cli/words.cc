// SPDX-License-Identifier: Apache-2.0
#include "src/cli/words.h"

#include <fmt/format.h>

#include "ipc/copy_table_file.h"

namespace libservices::cli {
namespace {

CLI::Option* add_fuse_options(CLI::App& verb, Words& words, const std::string& names) {
  return verb
      .add_option(
          names, words.fuse_options,
          "of the mount at the kernel: ro, allow_other (usual for root), allow_self, "
          "writeback, nopassthrough, noio_uring, supervise, fsname=NAME, and mount(8)'s nodev, "
          "nosuid, noexec, noatime, ...")
      ->type_name("OPTION,...")
      ->allow_extra_args(false);
}

}  // namespace

void add_mounts(CLI::App& verb, Words& words) {
  verb.add_option("-m,--mount", words.mounts,
                  "PATH=SPEC: the filesystem SPEC appears at PATH, which need not exist. PATH is "
                  "absolute; where it does not exist, a listing of its parent does not show it. "
                  "May be given more than once")
      ->required()
      ->type_name("PATH=SPEC")
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
  verb.add_flag("--supervise", words.supervise,
                "a small parent starts the service anew when it is killed, and when calls of a "
                "filesystem do not end that were given up at its deadline (deadline=30s, an option "
                "of SPEC); programs go on with their open files");
  verb.add_option("--stop-grace", words.stop_grace,
                  "how long a stop waits for calls that run, before it ends without them; what "
                  "they have not written is lost then")
      ->check(CLI::Range(0.1, 86400.0))
      ->type_name("SECONDS")
      ->capture_default_str();
}

void add_program(CLI::App& verb, Words& words) {
  verb.add_flag("--strict", words.strict,
                "a process ends, with a message and status 125, at the first call that the preload "
                "library refuses for a file of a mount and Linux would do on a plain directory");
  verb.add_flag("--report", words.report,
                "each process writes to standard error, when it ends, which calls were served, "
                "passed to the kernel and refused");
  verb.prefix_command();
  verb.footer(
      fmt::format("The program stands last:\n  libservices {} [OPTIONS] [--] PROGRAM "
                  "[ARGUMENT...]",
                  verb.get_name()));
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

}  // namespace libservices::cli
