// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/tenant_rights.h"

#include <doctest/doctest.h>

#include <string>

namespace libservices::ceph_internal {
namespace {

const TenantRights kTenant{"cephfs", "/srv/t1", "cephfs.data", "t1.10000000001"};

TEST_CASE("a tenant's rights are on its directory and its namespace, and can be read again") {
  const Rights rights = rights_of(kTenant);
  CHECK(rights.mds == "allow rw fsname=cephfs path=/srv/t1");
  CHECK(rights.mon == "allow r fsname=cephfs");
  CHECK(rights.osd == "allow rw pool=cephfs.data namespace=t1.10000000001");
  CHECK(tenant_of(rights) == kTenant);
}

TEST_CASE("a key with other rights is no tenant's") {
  const Rights good = rights_of(kTenant);
  CHECK_FALSE(tenant_of({}));
  CHECK_FALSE(tenant_of({"allow *", "allow *", "allow *"}));
  CHECK_FALSE(tenant_of({good.mds, good.mon, "allow rw tag cephfs data=cephfs"}));
  CHECK_FALSE(tenant_of({good.mds, good.mon, "allow rw pool=cephfs.data"}));
  CHECK_FALSE(tenant_of({good.mds, good.mon, good.osd + ", allow rw"}));
  CHECK_FALSE(tenant_of({good.mds, good.mon, good.osd + "*"}));
  CHECK_FALSE(tenant_of({good.mds + ", allow r", good.mon, good.osd}));
  CHECK_FALSE(tenant_of({"allow rw fsname=cephfs", good.mon, good.osd}));
  CHECK_FALSE(tenant_of({good.mds, "allow *", good.osd}));
  CHECK_FALSE(tenant_of({good.mds, "allow r fsname=other", good.osd}));
}

TEST_CASE("names that rights cannot be written for are refused") {
  for (const char* name : {"t1", "a", "9", "a.b-c_d", "T"}) {
    INFO(name);
    CHECK(check_tenant_name(name).ok());
  }
  for (const char* name :
       {"", ".", "-t", "_t", "a b", "a/b", "a,b", "a*", "a\n", "a\"b", "\xc3\xa4"}) {
    INFO(name);
    CHECK_FALSE(check_tenant_name(name).ok());
  }
  CHECK(check_tenant_name(std::string(64, 'a')).ok());
  CHECK_FALSE(check_tenant_name(std::string(65, 'a')).ok());
}

TEST_CASE("directories that rights cannot be written for are refused") {
  for (const char* path : {"/t1", "/srv/t1", "/a.b/c-d/_e"}) {
    INFO(path);
    CHECK(check_tenant_directory("t", path).ok());
  }
  for (const char* path :
       {"", "t1", "/", "/a b", "/a/../b", "/..", "/.", "/a,b", "/a*", "/a/.snap/b"}) {
    INFO(path);
    CHECK_FALSE(check_tenant_directory("t", path).ok());
  }
  CHECK_FALSE(check_tenant_directory("t", "/" + std::string(256, 'a')).ok());
}

}  // namespace
}  // namespace libservices::ceph_internal
