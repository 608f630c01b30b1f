// SPDX-License-Identifier: Apache-2.0
//
// Where a pool's service and its programs meet, and whether a service is there. What is in that
// directory: run_directory.h.
//
// Freestanding: the command's first part asks it before every program.
#ifndef LIBSERVICES_SRC_HOST_POOL_H_
#define LIBSERVICES_SRC_HOST_POOL_H_

#include <fcntl.h>
#include <sys/types.h>

#include <cstddef>
#include <string_view>

#include "src/host/path_text.h"

namespace libservices::host {

inline constexpr std::string_view kDefaultPool = "default";
inline constexpr std::size_t kMostPoolName = 64;                  // bytes
inline constexpr std::string_view kOfUser = "/tmp/libservices-";  // and the user's number

// Appends the run directory of the pool for this user; `runtime` is $XDG_RUNTIME_DIR, or null.
// False when `pool` is no name.
bool pool_directory(std::string_view pool, const char* runtime, PathText& into);

// An open file description lock on its lock file, which the service holds: it ends with its holder,
// and asking for it takes nothing.
struct flock whole_file();
// The pid in a lock file; 0 when none stands there.
pid_t pid_in(int lock);
// The pid of the service that holds the directory, 0 when none runs.
pid_t service_of(std::string_view run_directory);

// What keeps programs of this user from the service of a run directory.
enum class Obstacle { kNone, kNotAllowed, kNoService };
Obstacle obstacle_to(std::string_view run_directory);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_POOL_H_
