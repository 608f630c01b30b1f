// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "libservices/catalog.h"

namespace libservices {
namespace {

// Directories for the specs: "@" in a spec stands for the one above upper and lower.
class StandardCatalogTest {
 protected:
  StandardCatalogTest() {
    char name[] = "/tmp/libservices-catalog-test.XXXXXX";
    directory_ = ::mkdtemp(name);
    for (const char* below : {"/upper", "/lower/sub", "/lower2"}) {
      std::filesystem::create_directories(directory_ + below);
    }
    std::ofstream(directory_ + "/lower/file") << "text";
    std::ofstream(directory_ + "/lower/sub/inner") << "text";
  }
  ~StandardCatalogTest() { std::filesystem::remove_all(directory_); }

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
  std::string directory_;
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
