// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "libservices/catalog.h"
#include "tests/support/scratch_directory.h"

namespace libservices {
namespace {

// Directories for the specs: "@" in a spec stands for the one above upper and lower.
class StandardCatalogTest {
 protected:
  StandardCatalogTest() {
    for (const char* below : {"upper", "lower/sub", "lower2"}) (void)scratch_.directory(below);
    std::ofstream(directory_ + "/lower/file") << "text";
    std::ofstream(directory_ + "/lower/sub/inner") << "text";
  }

  std::string here(std::string spec) const {
    for (std::size_t at; (at = spec.find('@')) != std::string::npos;) {
      spec.replace(at, 1, directory_);
    }
    return spec;
  }
  // The filesystem, started; or null, with the message in message_.
  std::unique_ptr<AnyFilesystem> start(const std::string& spec) {
    auto built = catalog_.build(here(spec));
    absl::Status status = built.status();
    if (built.ok()) status = (*built)->start();
    message_ = std::string(status.message());
    return status.ok() ? *std::move(built) : nullptr;
  }
  bool told(std::string_view part) const { return message_.find(part) != std::string::npos; }

  const Catalog catalog_ = standard_catalog();
  const testing::ScratchDirectory scratch_;
  const std::string& directory_ = scratch_.path();
  std::string message_;
};

bool exists(AnyFilesystem& fs, const char* path) { return fs.stat(Context{}, path).ok(); }

int make_error(AnyFilesystem& fs, const char* path) {
  auto file = fs.open(Context{}, path, {O_CREAT | O_WRONLY}, 0644);
  if (!file.ok()) return file.error().value;
  const auto synced = fs.fsync(Context{}, **file, SyncScope::kAll);
  (void)fs.close(Context{}, *std::move(file));
  return synced.ok() ? 0 : synced.error().value;
}

TEST_CASE_FIXTURE(StandardCatalogTest, "each composition starts, and is what its spec says") {
  struct Expected {
    const char* spec;
    const char* there;  // a path that exists, or null
    int make;           // what making a file comes to
  };
  for (const Expected& expected : {
           Expected{"memory", nullptr, 0},
           Expected{"memory(capacity_files=1)", nullptr, ENOSPC},
           Expected{"empty", nullptr, EROFS},
           Expected{"local:@/lower", "/file", 0},
           Expected{"union(local:@/upper, local:@/lower, local:@/lower2)", "/sub/inner", 0},
           Expected{"union(memory, local:@/lower)", "/sub/inner", 0},
           Expected{"readonly(local:@/lower)", "/file", EROFS},
           Expected{"readonly(union(local:@/upper, local:@/lower))", "/file", EROFS},
           Expected{"subtree(local:@/lower, path=sub)", "/inner", 0},
           Expected{"subtree(union(local:@/upper, local:@/lower), path=/sub)", "/inner", 0},
           Expected{"idmap(memory)", nullptr, 0},
           Expected{"idmap(memory, uid=1:0:1, gid=1:0:1)", nullptr, EACCES},
           Expected{"idmap(local:@/lower, squash_uid=7, squash_gid=8)", "/file", 0},
           Expected{"idmap(union(local:@/upper, local:@/lower), squash_to_root=on)", "/file", 0},
           Expected{"union(local:@/upper, idmap(local:@/lower, uid=0:300000:65536), "
                    "idmap(local:@/lower2))",
                    "/sub/inner", 0},
           Expected{"union(memory, memory, memory, volatile=on)", nullptr, 0},
           Expected{"union(local:@/upper, subtree(local:@/lower, path=sub))", "/inner", 0},
           Expected{"union(faulty(local:@/upper, operation=fsync), local:@/lower)", "/file", EIO},
           Expected{"union(local:@/upper, faulty(local:@/lower, operation=lookup, first_call=100), "
                    "faulty(local:@/lower2))",
                    "/file", 0},
           Expected{"faulty(memory, operation=fsync, error=ENOSPC)", nullptr, ENOSPC},
           Expected{"faulty(local:@/lower, operation=fsync, first_call=2)", "/file", 0},
           Expected{"faulty(union(local:@/upper, local:@/lower), operation=fsync, error=EDQUOT)",
                    "/file", EDQUOT},
       }) {
    CAPTURE(expected.spec);
    auto fs = start(expected.spec);
    REQUIRE_MESSAGE(fs != nullptr, message_);
    if (expected.there != nullptr) CHECK(exists(*fs, expected.there));
    CHECK_FALSE(exists(*fs, "/nothing/such"));
    CHECK(make_error(*fs, "/new") == expected.make);
    CHECK(fs->stop().ok());
  }
}

TEST_CASE_FIXTURE(StandardCatalogTest, "idmap shows the owners that its options say") {
  struct Expected {
    const char* options;
    uid_t uid;
    gid_t gid;
  };
  std::filesystem::create_directories(directory_ + "/lower");
  const std::string file = directory_ + "/lower/file";
  if (::chown(file.c_str(), 5, 1005) != 0) {
    MESSAGE("SKIPPED: giving files to others takes the superuser's rights");
    return;
  }
  for (const Expected& expected : {
           Expected{"uid=0:300000:65536", 300005, 1005},
           Expected{"uid=0:300000:65536, gid=0:0:1000:1000:400000:10", 300005, 400005},
           Expected{"uid=5:7:1, gid=0:0:1", 7, 65534},
           Expected{"squash_uid=9", 9, 1005},
           Expected{"squash_gid=9, uid=0:100:10", 105, 9},
           Expected{"squash_to_root=on", 0, 0},
           Expected{"squash_to_root=on, squash_gid=3", 0, 3},
           Expected{"squash_to_root=off", 5, 1005},
       }) {
    CAPTURE(expected.options);
    auto fs = start(std::string("idmap(local:@/lower, ") + expected.options + ")");
    REQUIRE_MESSAGE(fs != nullptr, message_);
    const auto seen = fs->stat(Context{}, "/file");
    REQUIRE(seen.ok());
    CHECK(seen->uid == expected.uid);
    CHECK(seen->gid == expected.gid);
    CHECK(fs->stop().ok());
  }
}

TEST_CASE_FIXTURE(StandardCatalogTest, "five hundred branches with long paths are one union") {
  std::string spec = "union(local:@/upper";
  for (int i = 0; i < 500; ++i) {
    const std::string branch = "/" + std::string(64, 'b') + "/" + std::to_string(i);
    std::filesystem::create_directories(directory_ + branch);
    std::ofstream(directory_ + branch + "/file" + std::to_string(i)) << "text";
    spec += ", local:@" + branch;
  }
  auto fs = start(spec + ")");
  REQUIRE_MESSAGE(fs != nullptr, message_);
  CHECK(exists(*fs, "/file0"));
  CHECK(exists(*fs, "/file499"));
  CHECK_FALSE(exists(*fs, "/file500"));
  CHECK(make_error(*fs, "/file250") == 0);
  CHECK(fs->stop().ok());
}

TEST_CASE_FIXTURE(StandardCatalogTest, "what is wrong is refused by name, with the remedy") {
  CHECK(start("union(local:@/upper, memory)") == nullptr);
  CHECK(told("no such composition is compiled in (there are: memory, empty, local, union("));
  CHECK(start("local:@/gone") == nullptr);
  CHECK(told(here("@/gone")));
  CHECK(start("union(local:@/upper, local:@/gone)") == nullptr);
  CHECK(told(here("@/gone")));
  CHECK(start("union(local:@/lower/sub, local:@/lower)") == nullptr);
  CHECK(told("overlap"));
  CHECK(start("union(local:@/upper, local:@/lower, durable=perhaps)") == nullptr);
  CHECK(told("'perhaps' is no value for 'durable' (write true or false)"));
  CHECK(start("union(local:@/upper, local:@/lower, volatile=perhaps)") == nullptr);
  CHECK(told("'perhaps' is no value for 'volatile' (write on or off)"));
  CHECK(start("union(local:@/upper, local:@/lower, volatile=on, durable=true)") == nullptr);
  CHECK(told("'volatile' and 'durable' say the same thing (keep one of both)"));
  CHECK(start("union(local:@/upper, local:@/lower, xino=off)") == nullptr);
  CHECK(told("'off' is no value for 'xino'"));
  auto lasting = start("union(local:@/upper, local:@/lower, xino=auto)");
  REQUIRE_MESSAGE(lasting != nullptr, message_);
  CHECK(lasting->stop().ok());
  for (const char* uid :
       {"0", "0:1", "a:1:1", "0:1:1:", ":0:1:1", "0:1:1:2:3", "0:-1:1", "\"\"", "0:1:4294967296"}) {
    CAPTURE(uid);
    CHECK(start(std::string("idmap(memory, uid=") + uid + ")") == nullptr);
    CHECK(told("is no value for 'uid' (write STORED:SHOWN:COUNT, as 0:300000:65536, and more"));
  }
  CHECK(start("idmap(memory, gid=0:1:10:5:100:1)") == nullptr);
  CHECK(told("idmap: gid: the ranges 0:1:10 and 5:100:1 overlap: stored 5 is in both"));
  CHECK(start("idmap(memory, uid=0:1:1, squash_to_root=on)") == nullptr);
  CHECK(told("idmap: uid: ids are mapped by ranges, and all shown as one (keep one of both)"));
  CHECK(start("local:@/upper(speed=9)") == nullptr);
  CHECK(told("'local' has no option 'speed' (it has: cached_names"));
  CHECK(start("subtree(local:@/lower)") == nullptr);
  CHECK(told("needs a directory of the layer beneath"));
  CHECK(start("subtree(local:@/lower, path=gone)") == nullptr);
  CHECK(told("gone"));
  CHECK(start("faulty(memory, operation=fly)") == nullptr);
  CHECK(told("there is no operation 'fly' (there are: root, lookup"));
  CHECK(start("faulty(memory, operation=read, error=EFLY)") == nullptr);
  CHECK(told("there is no error 'EFLY'"));
}

}  // namespace
}  // namespace libservices
