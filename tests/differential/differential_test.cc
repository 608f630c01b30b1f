// SPDX-License-Identifier: Apache-2.0
//
// Random scripts, on each stack and on the kernel's tmpfs. LIBSERVICES_SEED and
// LIBSERVICES_SCRIPTS choose the first seed and how many follow it.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/differential/comparison.h"
#include "tests/differential/filesystem_subject.h"
#include "tests/differential/kernel_subject.h"
#include "tests/differential/script.h"

namespace libservices::testing {
namespace {

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = getenv(variable);
  return text == nullptr ? otherwise : strtoull(text, nullptr, 0);
}

template <class Stack>
void run_on(typename Stack::Config config, const std::function<void(Subject&)>& work) {
  FilesystemOf<Stack> fs(std::move(config));
  const absl::Status started = fs.start();
  REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
  {
    FilesystemSubject subject(fs);
    work(subject);
  }
  CHECK(fs.counters().open_files == 0);
  REQUIRE(fs.stop().ok());
}

// A directory of tmpfs that is gone with this object.
class Scratch {
 public:
  Scratch() {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
    for (const char* name : {"root", "lower", "work"}) {
      REQUIRE(::mkdir((path_ + "/" + name).c_str(), 0755) == 0);
    }
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_ = "/dev/shm/libservices-differential-XXXXXX";
};

struct OverMemory {
  static constexpr const char* kName = "memory";
  static void with_fresh(const std::function<void(Subject&)>& work) { run_on<Memory>({}, work); }
};

template <bool kExclusive>
struct OverLocal {
  static constexpr const char* kName = kExclusive ? "exclusive local" : "shared local";
  static void with_fresh(const std::function<void(Subject&)>& work) {
    const Scratch scratch;
    Local::Config config;
    config.directory = scratch / "root";
    config.work = scratch / "work";
    config.exclusive = kExclusive;
    run_on<Local>(config, work);
  }
};

// A union gives its directories one link each, as overlayfs does: 1 says nothing of subdirectories.
class WithoutDirectoryLinks final : public Subject {
 public:
  explicit WithoutDirectoryLinks(Subject& subject) : subject_(subject) {}
  Outcome apply(const Operation& op) override {
    Outcome outcome = subject_.apply(op);
    if (op.call == Call::kStat && outcome.text.starts_with("mode=4")) {
      const std::size_t start = outcome.text.find(" links=");
      outcome.text.erase(start, outcome.text.find(' ', start + 1) - start);
    }
    return outcome;
  }

 private:
  Subject& subject_;
};

WithFresh without_directory_links(const WithFresh& fresh) {
  return [fresh](const std::function<void(Subject&)>& work) {
    fresh([&](Subject& subject) {
      WithoutDirectoryLinks wrapped(subject);
      work(wrapped);
    });
  };
}

// Over empty lower layers: what a union adds to its upper must not be seen.
struct OverUnionOfMemory {
  static constexpr const char* kName = "union of memory";
  static void with_fresh(const std::function<void(Subject&)>& work) {
    using Stack = Union<Memory, Memory>;
    Stack::Config config;
    config.lowers.resize(2);
    run_on<Stack>(std::move(config), work);
  }
};

struct OverUnionOfLocal {
  static constexpr const char* kName = "union of local";
  static void with_fresh(const std::function<void(Subject&)>& work) {
    using Stack = Union<Local, Local>;
    const Scratch scratch;
    Stack::Config config;
    config.upper.directory = scratch / "root";
    config.upper.work = scratch / "work";
    config.lowers.resize(1);
    config.lowers[0].directory = scratch / "lower";
    config.durable = false;
    run_on<Stack>(std::move(config), work);
  }
};

void compare_scripts(const char* name, const WithFresh& kernel, const WithFresh& stack) {
  if (const std::string why = why_kernel_cannot(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const ScriptOptions options = what_kernel_has();
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 150);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    const std::string found = difference(make_script(seed, 400, options), kernel, stack);
    CHECK_MESSAGE(found.empty(), name, ", LIBSERVICES_SEED=", seed, ": ", found);
    if (!found.empty()) return;
  }
}

TEST_CASE_TEMPLATE("a stack answers every script as the kernel's tmpfs does", Stack, OverMemory,
                   OverLocal<false>, OverLocal<true>) {
  compare_scripts(Stack::kName, on_fresh_tmpfs, Stack::with_fresh);
}

TEST_CASE_TEMPLATE("a stack answers as tmpfs does, but for the links of directories", Stack,
                   OverUnionOfMemory, OverUnionOfLocal) {
  compare_scripts(Stack::kName, without_directory_links(on_fresh_tmpfs),
                  without_directory_links(Stack::with_fresh));
}

TEST_CASE("a difference is found, and shown with the calls that it takes and no others") {
  if (const std::string why = why_kernel_cannot(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  struct Forgetful final : Subject {
    explicit Forgetful(Subject& below) : below(below) {}
    Outcome apply(const Operation& op) override {
      if (op.call == Call::kTruncate) return {};
      return below.apply(op);
    }
    Subject& below;
  };
  auto forgetful = [](const std::function<void(Subject&)>& work) {
    on_fresh_tmpfs([&](Subject& kernel) {
      Forgetful subject(kernel);
      work(subject);
    });
  };
  const std::string found = difference(make_script(1, 200, {}), on_fresh_tmpfs, forgetful);
  CHECK(found.find("truncate") != std::string::npos);
  CHECK(std::count(found.begin(), found.end(), '\n') < 12);
}

}  // namespace
}  // namespace libservices::testing

TYPE_TO_STRING_AS("memory", libservices::testing::OverMemory);
TYPE_TO_STRING_AS("shared local", libservices::testing::OverLocal<false>);
TYPE_TO_STRING_AS("exclusive local", libservices::testing::OverLocal<true>);
TYPE_TO_STRING_AS("union of memory", libservices::testing::OverUnionOfMemory);
TYPE_TO_STRING_AS("union of local", libservices::testing::OverUnionOfLocal);
