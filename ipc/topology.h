// SPDX-License-Identifier: Apache-2.0
//
// Core groups: the sets of cores between which a request travels cheapest. One request queue for
// each group keeps its cache lines inside the group.
//
// A group is the smallest cache domain with at least two cores, as the kernel describes it in
// /sys/devices/system/cpu/cpuN/cache; where each core has its second-level cache for itself, that
// is the last level. Cores that share no cache with another one are a group together. Only cores
// on which the process may run count.
//
// THREADS: any.
#ifndef LIBSERVICES_IPC_TOPOLOGY_H_
#define LIBSERVICES_IPC_TOPOLOGY_H_

#include <string>
#include <string_view>
#include <vector>

namespace libservices::ipc {

using CoreGroup = std::vector<int>;  // numbers of processors, ascending

// "0-3,8,10-11", as sysfs writes a set of processors. Empty for what is no such list.
std::vector<int> parse_cpu_list(std::string_view text);

// The processors on which the calling thread may run, ascending.
std::vector<int> allowed_cpus();

// The groups of `allowed`, by their first member. Each of `allowed` is in exactly one of them.
std::vector<CoreGroup> core_groups(const std::vector<int>& allowed,
                                   const std::string& cpu_directory = "/sys/devices/system/cpu");

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_TOPOLOGY_H_
