// SPDX-License-Identifier: Apache-2.0
//
// What the verbs of `libservices` do, behind the command line. Each returns its exit status and
// has written its errors to standard error as `libservices: WHAT: WHY (HOW TO MEND)`.
#ifndef LIBSERVICES_SRC_CLI_VERBS_H_
#define LIBSERVICES_SRC_CLI_VERBS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "libservices/catalog.h"
#include "libservices/host.h"

namespace libservices::cli {

// For messages of one line, or with the excerpt of a spec behind it.
void complain(std::string_view message);
void complain(const absl::Status& status);

// A private service for one program: its status, or 128 + the signal that killed it.
int with(HostConfig config, const Catalog& catalog, const std::vector<std::string>& program);

// A service in the foreground, until SIGTERM, SIGINT or SIGHUP. When it serves, it closes
// `ready_descriptor` after a newline (-1: none). A supervised one is started anew when it dies.
int serve(HostConfig config, const Catalog& catalog, int ready_descriptor, bool supervised);

// Becomes the program, on the service of `run_directory`.
int run(const std::string& run_directory, const std::vector<std::string>& program);

enum class StatusForm { kHuman, kJson };
int status(const std::string& run_directory, StatusForm form);

enum class CheckAction { kCount, kComplete };
// How many files of each composition, which no service may be using, are kept in part, or makes
// them whole.
int check(const Catalog& catalog, const std::vector<std::string>& specs, CheckAction action);

struct TuneWords {
  enum class Action { kMeasure, kShow };
  Action action = Action::kMeasure;
  std::string file;  // the copy table's
  double seconds = 10;
  StatusForm form = StatusForm::kHuman;
};
// Measures how this processor copies best and stores the copy table, or shows the one there is.
int tune(const TuneWords& words);

// Where libservices-preload.so is: $LIBSERVICES_PRELOAD, else beside this program as installed
// (../lib) or as built (../preload). Empty, after a complaint, when it is nowhere.
std::string find_preload_library();

// In the process that becomes the program: its environment, and exec. Returns only an exit status.
int become(const std::vector<std::string>& program, const std::string& path,
           const std::string& preload, const std::string& run_directory);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_VERBS_H_
