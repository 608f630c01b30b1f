// SPDX-License-Identifier: Apache-2.0
//
// By what name the cluster knows a service again that was killed and started again.
//
// A client of Ceph with a session's name gives back at once what the last one of that name held;
// but it also ends that one, if it still lives. So the name is this service's alone: it says which
// machine and which run directory, where only one service can be. `Ceph` adds what tells apart the
// clients of one service.
#ifndef LIBSERVICES_SRC_HOST_CEPH_SESSIONS_H_
#define LIBSERVICES_SRC_HOST_CEPH_SESSIONS_H_

#include <string>
#include <string_view>

#include "libservices/spec.h"

namespace libservices::host {

// The same for each service that runs there, one after the other.
std::string service_name(std::string_view run_directory);

// Tells every `ceph` in the spec that names no session whose it is.
void name_ceph_sessions(Spec& spec, const std::string& service);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_CEPH_SESSIONS_H_
