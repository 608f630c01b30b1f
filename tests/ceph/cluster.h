// SPDX-License-Identifier: Apache-2.0
//
// The cluster of a test program: up before its cases run, and down when the program ends, however
// it does. cluster_main.cc has the main function.
#ifndef LIBSERVICES_TESTS_CEPH_CLUSTER_H_
#define LIBSERVICES_TESTS_CEPH_CLUSTER_H_

#include <string>

#include "services/ceph/ceph.h"

namespace libservices::testing {

// A client of it that stays mounted while the program runs, so that no case waits for an unmount.
Ceph& cluster_root();

// What every instance on it begins with; shares that client.
Ceph::Config cluster_config(std::string directory);

// The path of a new directory at the root of the CephFS.
std::string fresh_directory();

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_CEPH_CLUSTER_H_
