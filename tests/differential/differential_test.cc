// SPDX-License-Identifier: Apache-2.0
//
// Random scripts, on each stack and on the kernel's tmpfs. LIBSERVICES_SEED and
// LIBSERVICES_SCRIPTS choose the first seed and how many follow it.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "libservices/filesystem_of.h"
#include "libservices/layers/id_map.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/differential/comparison.h"
#include "tests/differential/filesystem_subject.h"
#include "tests/differential/kernel_subject.h"
#include "tests/differential/layers.h"
#include "tests/differential/script.h"
#include "tests/differential/seeds.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

struct OverMemory {
  static constexpr const char* kName = "memory";
  static void with_fresh(const std::function<void(Subject&)>& work) { run_on<Memory>({}, work); }
};

template <bool kExclusive>
struct OverLocal {
  static constexpr const char* kName = kExclusive ? "exclusive local" : "shared local";
  static void with_fresh(const std::function<void(Subject&)>& work) {
    const ScratchDirectory scratch(kTmpfs);
    Local::Config config;
    config.directory = scratch.directory("root");
    config.work = scratch.directory("work");
    config.exclusive = kExclusive;
    run_on<Local>(config, work);
  }
};

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
    const ScratchDirectory scratch(kTmpfs);
    Stack::Config config;
    config.upper.directory = scratch.directory("root");
    config.upper.work = scratch.directory("work");
    config.lowers.resize(1);
    config.lowers[0].directory = scratch.directory("lower");
    config.durable = false;
    run_on<Stack>(std::move(config), work);
  }
};

void compare_scripts(const char* name, const WithFresh& kernel, const WithFresh& stack,
                     unsigned layers = 1) {
  if (const std::string why = why_kernel_cannot(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const ScriptOptions options = what_kernel_has();
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 150);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    std::vector<Operation> script = make_script(seed, 400, options);
    for (unsigned layer = 1; layer < layers; ++layer) {
      Operation next;
      next.call = Call::kNextLayer;
      script.insert(script.begin() + static_cast<long>(script.size() * layer / layers), next);
    }
    const std::string found = difference(std::move(script), kernel, stack);
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

// The callers' own ids are stored; group 2000 is not, nor are some owners shown.
constexpr ShownIds kIds{.stored = 100000, .count = 1002};

// What is there before the script: names that it uses, of all kinds of owners.
void prepare(const std::string& root) {
  constexpr uid_t kOwners[] = {100000, 101000, 7, 101001, 101002};
  constexpr mode_t kModes[] = {0777, 0700, 0675, 0467, 01757};
  REQUIRE(::chown(root.c_str(), 100000, 100000) == 0);
  REQUIRE(::chmod(root.c_str(), 0755) == 0);
  unsigned number = 0;
  const auto owned = [&](const std::string& path) {
    REQUIRE(::chown(path.c_str(), kOwners[number % 5], kOwners[number / 2 % 5]) == 0);
    REQUIRE(::chmod(path.c_str(), kModes[number / 3 % 5]) == 0);
    ++number;
  };
  for (const char* directory : {"/a", "/b", "/c", "/d"}) {
    REQUIRE(::mkdir((root + directory).c_str(), 0700) == 0);
    for (const char* name : {"/a", "/b", "/c", "/d", "/e"}) {
      const std::string path = root + directory + name;
      if (number % 3 == 0) {
        REQUIRE(::mkdir(path.c_str(), 0700) == 0);
      } else {
        REQUIRE(::mknod(path.c_str(), S_IFREG | 0600, 0) == 0);
      }
      owned(path);
    }
    owned(root + directory);
  }
}

// Whether the caller may give something away or set a list, or there are such ids: who asks for
// both wrongly is told the one or the other first.
class UnstoredIsForbidden final : public Subject {
 public:
  explicit UnstoredIsForbidden(Subject& subject) : subject_(subject) {}
  Outcome apply(const Operation& op) override {
    Outcome outcome = subject_.apply(op);
    const bool unstored = op.uid >= kIds.count || op.gid >= kIds.count;
    if (op.call == Call::kChown && unstored && outcome.error == EPERM) outcome.error = EOVERFLOW;
    const bool refused =
        outcome.error == EACCES || outcome.error == EPERM || outcome.error == EOPNOTSUPP;
    if (op.call == Call::kSetxattr && refused && has_unstored(op)) outcome.error = EINVAL;
    return outcome;
  }

 private:
  static bool has_unstored(const Operation& op) {
    if (!AccessList::is_name(op.other_path)) return false;
    const std::string value = attribute_value(op);
    const auto list = AccessList::parse(std::as_bytes(std::span(value)));
    return list.ok() && std::ranges::any_of(list->entries(), [](const AccessList::Entry& entry) {
             return entry.is_named() && entry.id >= kIds.count;
           });
  }

  Subject& subject_;
};

TEST_CASE("IdMap answers every script as an idmapped mount of tmpfs does") {
  if (why_kernel_cannot().empty() && !has_idmapped_tmpfs()) {
    MESSAGE("SKIPPED: this kernel has no idmapped mounts of tmpfs (it takes Linux 6.3)");
    return;
  }
  compare_scripts(
      "idmap",
      [](const std::function<void(Subject&)>& work) {
        on_idmapped_tmpfs(kIds, prepare, [&](Subject& subject) {
          UnstoredIsForbidden told_later(subject);
          work(told_later);
        });
      },
      [](const std::function<void(Subject&)>& work) {
        const ScratchDirectory scratch(kTmpfs);
        prepare(scratch.directory("root"));
        IdMap<Local>::Config config;
        config.lower.directory = scratch.directory("root");
        config.lower.work = scratch.directory("work");
        config.lower.exclusive = true;
        config.uids = config.gids = {{kIds.stored, 0, kIds.count}};
        run_on<IdMap<Local>>(std::move(config), [&](Subject& subject) {
          UnstoredIsForbidden told_later(subject);
          work(told_later);
        });
      });
}

// A directory with the owner, mode, times and attributes of another one, and nothing in it.
void make_like(const std::string& directory, const std::string& model) {
  struct stat seen;
  REQUIRE(::mkdir(directory.c_str(), 0755) == 0);
  REQUIRE(::stat(model.c_str(), &seen) == 0);
  REQUIRE(::chown(directory.c_str(), seen.st_uid, seen.st_gid) == 0);
  REQUIRE(::chmod(directory.c_str(), seen.st_mode & 07777U) == 0);
  char names[1024];
  char value[8192];
  const ssize_t size = ::listxattr(model.c_str(), names, sizeof names);
  for (const char* name = names; name < names + size; name += std::strlen(name) + 1) {
    const ssize_t length = ::getxattr(model.c_str(), name, value, sizeof value);
    REQUIRE(length >= 0);
    REQUIRE(::setxattr(directory.c_str(), name, value, static_cast<std::size_t>(length), 0) == 0);
  }
  const timespec times[2] = {seen.st_atim, seen.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, directory.c_str(), times, 0) == 0);
}

void layers_of_local(const std::function<void(Subject&)>& work) {
  const ScratchDirectory scratch(kTmpfs);
  const std::string root = scratch.directory("root");
  const auto directory_of = [&](int of) { return root + "-" + std::to_string(of); };
  std::optional<Running<Local>> lowest;
  std::optional<Running<Union<Local, Local>>> stacked;
  OnLayers subject([&](int layer) -> Subject& {
    lowest.reset();
    stacked.reset();
    make_like(directory_of(layer), layer == 0 ? root : directory_of(layer - 1));
    if (layer == 0) {
      Local::Config config;
      config.directory = directory_of(0);
      lowest.emplace(config);
      return *lowest->subject;
    }
    Union<Local, Local>::Config config;
    config.upper.directory = directory_of(layer);
    for (int lower = layer - 1; lower >= 0; --lower) {
      config.lowers.emplace_back().directory = directory_of(lower);
    }
    config.durable = false;
    config.range_bytes = 4096;  // so that files of the scripts are copied up in part
    stacked.emplace(std::move(config));
    return *stacked->subject;
  });
  work(subject);
}

TEST_CASE("a union over layers that hold files answers as tmpfs does") {
  compare_scripts("union over layers", without_directory_links(layers_on_tmpfs),
                  without_directory_links(layers_of_local), OnLayers::kLayers);
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
