// SPDX-License-Identifier: Apache-2.0
//
// Union keeps the contract over branches in CephFS, and over such a lower with a local upper.
#include "libservices/testing/conformance.h"
#include "services/ceph/ceph.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/ceph/cluster.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

inline Ceph::Config ceph_upper() {
  Ceph::Config upper = cluster_config(fresh_directory());
  upper.exclusive = true;
  return upper;
}

inline Ceph::Config seeded_ceph() {
  const Ceph::Config lower = cluster_config(fresh_directory());
  Ceph maker(lower);
  REQUIRE(maker.start().ok());
  seed(maker);
  REQUIRE(maker.stop().ok());
  return lower;
}

constexpr bool is_exchange(RenameMode mode) { return mode == RenameMode::kExchange; }

struct EmptyLowerStack {
  using Service = Union<Ceph, Ceph>;
  static constexpr const char* kName = "union(ceph, ceph) with all in the upper";
  static constexpr bool refuses(RenameMode mode) { return is_exchange(mode); }
  Service::Config config() {
    return {.upper = ceph_upper(),
            .lowers = {cluster_config(fresh_directory())},
            .durable = true,
            .marks = Service::MarkForm::kFiles};
  }
};

struct SeededLowerStack {
  using Service = Union<Ceph, Ceph>;
  static constexpr const char* kName = "union(ceph, ceph) with all in the lower";
  static constexpr bool kSeeded = true;
  static constexpr bool refuses(RenameMode mode) { return is_exchange(mode); }
  Service::Config config() {
    return {.upper = ceph_upper(),
            .lowers = {seeded_ceph()},
            .durable = true,
            .marks = Service::MarkForm::kFiles};
  }
};

struct LocalUpperStack {
  using Service = Union<Local, Ceph>;
  static constexpr const char* kName = "union(local, ceph) with all in the lower";
  static constexpr bool kSeeded = true;
  Service::Config config() {
    return {.upper = {.directory = scratch.directory("upper"), .work = {}},
            .lowers = {seeded_ceph()},
            .durable = true};
  }
  ScratchDirectory scratch;
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::EmptyLowerStack);
LIBSERVICES_CONFORMANCE(libservices::testing::SeededLowerStack);
LIBSERVICES_CONFORMANCE(libservices::testing::LocalUpperStack);
