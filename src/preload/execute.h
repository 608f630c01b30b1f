// SPDX-License-Identifier: Apache-2.0
//
// Running programs: what exec and spawn have in common.
#ifndef LIBSERVICES_SRC_PRELOAD_EXECUTE_H_
#define LIBSERVICES_SRC_PRELOAD_EXECUTE_H_

#include "src/client/environment.h"

namespace libservices::preload {

using client::kPoolVariable;
using client::kPreloadVariable;
using client::kReportVariable;
using client::kStrictVariable;
using client::value_of;

// Remembers how this library came into the process, so that programs run from here get it too.
void remember_environment(char* const* environment);

// execveat, for programs and scripts of ours and of the kernel's. Returns only on failure: -errno.
long execute(int directory, const char* path, char* const* arguments, char* const* environment,
             int flags);
// execvpe: a search along PATH, and /bin/sh for what is no program. Returns only on failure:
// -errno.
long execute_by_name(const char* file, char* const* arguments, char* const* environment);
// Whether only `execute` can run it rightly: a program that may be found in a mount, or one that the
// library cannot enter and that inherits files of ours. `search`: along PATH.
bool needs_library(const char* file, bool search);

// `environment` with what the library needs, if it was removed: the environment itself, or `space`
// filled, which has room for kMoreVariables more pointers; strings go to `text`.
inline constexpr int kMoreVariables = 5;
struct EnvironmentText {
  char preload[8192];
  char pool[256];
  char report[512];
  char strict[32];
};
char* const* complete_environment(char* const* environment, char** space, EnvironmentText& text);
int count_strings(char* const* strings);

}  // namespace libservices::preload

#endif  // LIBSERVICES_SRC_PRELOAD_EXECUTE_H_
