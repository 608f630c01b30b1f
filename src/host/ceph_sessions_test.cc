// SPDX-License-Identifier: Apache-2.0
#include "src/host/ceph_sessions.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <string>

#include "tests/support/scratch_directory.h"

namespace libservices::host {
namespace {

std::string named(const char* text) {
  auto spec = parse_spec(text);
  REQUIRE(spec.ok());
  name_ceph_sessions(*spec, "me");
  return to_string(*spec);
}

TEST_CASE("each ceph that names no session is told whose it is, and nothing else is") {
  CHECK(named("ceph:/a") == "ceph:/a(service=me)");
  CHECK(named("readonly(union(ceph:/a(cache=1M), ceph:/b))") ==
        "readonly(union(ceph:/a(cache=1M, service=me), ceph:/b(service=me)))");
  CHECK(named("ceph:/a(session=mine)") == "ceph:/a(session=mine)");
  CHECK(named("ceph:/a(service=its)") == "ceph:/a(service=its)");
  CHECK(named("union(local:/a, local:/b)") == "union(local:/a, local:/b)");
}

TEST_CASE("a service has the name of the one before it, and nobody else's") {
  const testing::ScratchDirectory scratch;
  const std::string one = scratch.path() + "/pools/one";
  const std::string name = service_name(one);
  CHECK(name.find(one) != std::string::npos);
  REQUIRE(::mkdir((scratch.path() + "/pools").c_str(), 0700) == 0);
  REQUIRE(::mkdir(one.c_str(), 0700) == 0);
  CHECK(service_name(one) == name);
  CHECK(service_name(scratch.path() + "/pools/two") != name);
  for (const char* const path : {"pool", "", "/", "/pool"}) {  // refused later, or not there
    CHECK(service_name(path).ends_with(path));
  }
}

}  // namespace
}  // namespace libservices::host
