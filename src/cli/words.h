// SPDX-License-Identifier: Apache-2.0
//
// What is written on the command line, and the options by which the verbs take it.
#ifndef LIBSERVICES_SRC_CLI_WORDS_H_
#define LIBSERVICES_SRC_CLI_WORDS_H_

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "libservices/host.h"
#include "src/cli/ceph_tenant.h"
#include "src/cli/fuse_words.h"
#include "src/cli/verbs.h"
#include "src/host/pool.h"

namespace libservices::cli {

struct Words {
  std::vector<std::string> mounts;
  bool fuse = false;
  std::vector<std::string> fuse_options;
  std::string pool{host::kDefaultPool};
  std::string run_directory;
  std::string clients;
  std::size_t workers = 0;
  std::size_t sessions = HostConfig{}.most_sessions;
  std::size_t open_files = HostConfig{}.most_open_files;
  std::string threads = "bound";
  double restart_wait = std::chrono::duration<double>(HostConfig{}.restart_wait).count();
  double stop_grace = std::chrono::duration<double>(kStopGrace).count();
  bool supervise = false;
  int ready_descriptor = -1;
  bool json = false;
  TuneWords tune;
  bool show = false;
  bool strict = false;
  bool report = false;
  std::vector<std::string> specs;
  bool complete = false;
  std::string spec;
  std::vector<std::string> paths;
  std::string mount_pool;
  bool foreground = false;
  bool lazy = false;
  CephTenantWords ceph_tenant;
};

void add_mounts(CLI::App& verb, Words& words);
void add_fuse(CLI::App& verb, Words& words);
void add_pool(CLI::App& verb, Words& words);
void add_mount(CLI::App& verb, Words& words);
void add_limits(CLI::App& verb, Words& words);
void add_restart(CLI::App& verb, Words& words);
void add_program(CLI::App& verb, Words& words);
void add_tuning(CLI::App& verb, Words& words);
CLI::Option* add_run_directory(CLI::App& verb, Words& words);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_WORDS_H_
