// SPDX-License-Identifier: Apache-2.0
//
// The cluster of a test program: up before its cases run, and down when the program ends, however
// it does. cluster_main.cc has the main function, whose argument --bluestore is the cluster's.
#ifndef LIBSERVICES_TESTS_CEPH_CLUSTER_H_
#define LIBSERVICES_TESTS_CEPH_CLUSTER_H_

#include <initializer_list>
#include <string>

#include "services/ceph/ceph.h"

namespace libservices::testing {

// A client of it that stays mounted while the program runs, so that no case waits for an unmount.
Ceph& cluster_root();

// What every instance on it begins with; shares that client.
Ceph::Config cluster_config(std::string directory);

// tools/cluster with this verb and what follows its directory. Throws if it fails.
void cluster_tool(std::string verb, std::initializer_list<std::string> words = {});

// What has a client of its own, with a session and a cache of its own, beside that one.
Ceph::Config second_client_config(std::string directory);

// The path of a new directory at the root of the CephFS.
std::string fresh_directory();

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_CEPH_CLUSTER_H_
