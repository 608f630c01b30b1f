// SPDX-License-Identifier: Apache-2.0
//
// A process runs a script of calls on a union and dies at the n-th moment of the work on the upper
// branch: before or after an operation of it. The next instance must show the tree as it was before
// the call that was cut short, or as it is after it. So for n = 1, 2, … until the script is
// through.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/crash/branches.h"
#include "tests/crash/promises.h"

namespace libservices::testing {
namespace {

namespace host = std::filesystem;

// "" if `seen` may be what a crash between `before` and `after` leaves, otherwise why not.
using Between = std::function<std::string(const Tree& seen, const Tree& before, const Tree& after)>;

struct Step {
  std::string name;
  std::function<Result<void>(Root&)> run;
  Between between = nullptr;  // null: nothing is between
  int error = 0;              // that it must give
};
using Script = std::vector<Step>;

// A call that writes to the file: each byte and each attribute by itself is old or new.
Between bytes_of(const std::string& path) {
  return [path](const Tree& seen, const Tree& before, const Tree& after) -> std::string {
    const auto found = seen.find(path);
    if (found == seen.end()) return path + " is missing";
    const Seen& was = before.at(path);
    const Seen& is = after.at(path);
    Tree expected = before;
    expected[path] = found->second;
    if (std::string other = difference(seen, expected); !other.empty()) return other;
    const std::string& content = found->second.content;
    const auto [least, most] = std::minmax({was.content.size(), is.content.size()});
    if (content.size() < least || content.size() > most) {
      return fmt::format("{} has the size {}", path, content.size());
    }
    for (std::size_t i = 0; i < content.size(); ++i) {
      const bool as_before = i < was.content.size() && content[i] == was.content[i];
      const bool as_after = i < is.content.size() && content[i] == is.content[i];
      if (!as_before && !as_after) return fmt::format("{}, byte {} is neither", path, i);
    }
    Seen rest = found->second;
    rest.content = was.content;
    rest.old = was.old;
    return rest == was ? "" : path + " has other attributes";
  };
}

// The same of a file with two names, which must agree.
Between bytes_of_links() {
  return [](const Tree& seen, const Tree& before, const Tree& after) -> std::string {
    if (seen.at("/linked") != seen.at("/e/linked")) return "the two names differ";
    const auto one = [](Tree tree) {
      tree.erase("/linked");
      return tree;
    };
    return bytes_of("/e/linked")(one(seen), one(before), one(after));
  };
}

Tree without(Tree tree, const std::string& path) {
  std::erase_if(tree, [&](const auto& entry) {
    return entry.first == path || entry.first.starts_with(path + "/");
  });
  return tree;
}

// A file is renamed, and for a while both names are there.
Between both_names(const std::string& from, const std::string& to) {
  if (kRenameOfLowerFileIsOneStep) return nullptr;
  return [from, to](const Tree& seen, const Tree&, const Tree& after) -> std::string {
    if (!seen.contains(from) || !seen.contains(to)) return "a name is gone";
    if (seen.at(from).content != seen.at(to).content) return "the names have two contents";
    Tree rest = without(seen, from);
    rest[to].links = after.at(to).links;
    rest[to].same_as = after.at(to).same_as;
    return difference(rest, after);
  };
}

// A directory is renamed, and for a while one is at the old name too.
Between directory_at(const std::string& from) {
  if (kRenameOfUpperDirectoryIsOneStep) return nullptr;
  return [from](const Tree& seen, const Tree&, const Tree& after) {
    return difference(without(seen, from), after);
  };
}

// A file is emptied by its copy-up, and then gets its time.
Between emptied(const std::string& path) {
  if (kTruncationIsOneStep) return nullptr;
  return [path](const Tree& seen, const Tree&, Tree after) {
    after.at(path).old = true;
    return difference(seen, after);
  };
}

std::string problem(const Tree& seen, const Tree& before, const Tree& after, const Step& step) {
  const auto comparable = [](Tree tree) {
    for (auto& [path, object] : tree) {
      if (!kCopyUpKeepsDirectoryTimes && S_ISDIR(object.mode)) object.old = false;
    }
    return tree;
  };
  const Tree now = comparable(seen);
  const Tree old = comparable(before);
  const Tree fresh = comparable(after);
  const std::string not_old = difference(now, old);
  if (not_old.empty()) return "";
  const std::string not_new = difference(now, fresh);
  if (not_new.empty()) return "";
  std::string text = fmt::format("not the old tree: {}; not the new one: {}", not_old, not_new);
  if (!step.between) return text;
  const std::string not_between = step.between(now, old, fresh);
  return not_between.empty() ? "" : fmt::format("{}; nor between: {}", text, not_between);
}

// What the process that dies says of itself.
struct Progress {
  std::atomic<std::size_t> acknowledged;
  std::atomic<int> error;
  std::atomic<std::size_t> moment;
  std::atomic<Operation> operation;
  std::atomic<FaultPlan::Moment> side;
};

class Shared {
 public:
  Shared()
      : progress_(static_cast<Progress*>(mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(progress_ != MAP_FAILED);
  }
  ~Shared() { munmap(progress_, sizeof(Progress)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  Progress* operator->() { return progress_; }
  void clear() { new (progress_) Progress{}; }

 private:
  Progress* progress_;
};

enum : int { kThrough = 0, kDied = 70, kWrongAnswer = 71 };

// In the child: the script up to its end or the moment, and no way back.
[[noreturn]] void run_and_die(const Branches& branches, const Script& script, std::size_t moment,
                              Shared& shared) {
  auto plan = std::make_shared<FaultPlan>();
  Root root(branches.config(plan), kSmallCache);
  if (!root.start().ok()) _exit(kWrongAnswer);
  plan->set_hook([&](Operation operation, FaultPlan::Moment side) {
    shared->operation = operation;
    shared->side = side;
    if (++shared->moment == moment) _exit(kDied);
  });
  for (const Step& step : script) {
    const auto done = step.run(root);
    shared->error = done.ok() ? 0 : done.error().value;
    if (shared->error != step.error) _exit(kWrongAnswer);
    ++shared->acknowledged;
  }
  _exit(kThrough);
}

int run_child(const Branches& branches, const Script& script, std::size_t moment, Shared& shared) {
  shared.clear();
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) run_and_die(branches, script, moment, shared);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

Tree seen_after_restart(const Branches& branches) {
  Running root(branches);
  CHECK(branches.staged() == 0);
  return tree_of(*root);
}

// What is in the upper is seen, or is a whiteout.
void check_upper(const Branches& branches, const Tree& seen) {
  const std::string upper = branches.upper();
  for (const auto& entry : host::recursive_directory_iterator(upper)) {
    struct stat at {};
    REQUIRE(lstat(entry.path().c_str(), &at) == 0);
    if (S_ISCHR(at.st_mode) && at.st_rdev == 0) continue;
    const std::string path = entry.path().string().substr(upper.size());
    CHECK_MESSAGE(seen.contains(path), path, " lies in the upper, and nobody sees it");
  }
}

// Every file can be written, every directory takes a new one, and all can be removed for good.
void work_on(const Branches& branches, const Tree& tree) {
  {
    Running root(branches);
    for (const auto& entry : tree) {
      const auto& [path, object] = entry;
      CAPTURE(entry.first);
      if (S_ISREG(object.mode)) {
        REQUIRE(append(*root, path, "!").ok());
        const auto content = read_all(*root, path);
        REQUIRE(content.ok());
        CHECK(content->starts_with(object.content));
        CHECK(content->ends_with("!"));
      } else if (S_ISDIR(object.mode)) {
        REQUIRE(make(*root, path + "/later", "later").ok());
      }
    }
    const Tree after = tree_of(*root);
    for (auto entry = after.rbegin(); entry != after.rend(); ++entry) {
      CAPTURE(entry->first);
      const auto removed = S_ISDIR(entry->second.mode) ? root->rmdir(kMe, entry->first)
                                                       : root->unlink(kMe, entry->first);
      REQUIRE_MESSAGE(removed.ok(), std::string(strerrorname_np(removed.error().value)));
    }
  }
  CHECK(seen_after_restart(branches).empty());
}

Tree after_steps(const Branches& branches, const Script& script, std::size_t count) {
  branches.empty_upper();
  {
    Running root(branches);
    for (std::size_t i = 0; i < count; ++i) {
      CAPTURE(script[i].name);
      const auto done = script[i].run(*root);
      CHECK((done.ok() ? 0 : done.error().value) == script[i].error);
      CHECK(branches.staged() == 0);
    }
  }
  return seen_after_restart(branches);
}

// As far as a crash leaves it to be compared.
Tree compared(Tree tree) {
  if (kLinkCountsSurviveCrashes) return tree;
  for (const char* name : {"/linked", "/e/linked", "/third", "/moved"}) {
    if (const auto found = tree.find(name); found != tree.end()) found->second.links = 1;
  }
  return tree;
}

// At each `every`-th moment the tree is worked on afterwards.
void die_at_each_moment(const Branches& branches, const Script& script, std::size_t every) {
  std::vector<Tree> states;
  for (std::size_t count = 0; count <= script.size(); ++count) {
    states.push_back(after_steps(branches, script, count));
    const Tree& tree = states.back();
    if (kLinksOfLowerFilesStay && tree.contains("/linked") && tree.contains("/e/linked")) {
      CHECK(tree.at("/linked") == tree.at("/e/linked"));
    }
  }
  Shared shared;
  std::size_t moment = 1;
  for (;; ++moment) {
    branches.empty_upper();
    const int ended = run_child(branches, script, moment, shared);
    const std::size_t done = shared->acknowledged;
    if (ended == kThrough) break;
    const Step& step = script.at(done);
    CAPTURE(step.name);
    CAPTURE(moment);
    REQUIRE_MESSAGE(ended == kDied, std::string(strerrorname_np(shared->error)));
    const std::string_view side = shared->side == FaultPlan::Moment::kBefore ? "before " : "after ";
    const std::string death = std::string(side) + std::string(name_of(shared->operation));
    CAPTURE(death);
    const Tree seen = compared(seen_after_restart(branches));
    const std::string why = problem(seen, compared(states[done]), compared(states[done + 1]), step);
    CHECK_MESSAGE(why.empty(), why);
    check_upper(branches, seen);
    if (moment % every == 0) work_on(branches, seen);
  }
  CHECK(moment > 10);
  branches.empty_upper();
  const Tree lowers = seen_after_restart(branches);
  const std::string why = difference(lowers, states.front());
  CHECK_MESSAGE(why.empty(), "the lowers have changed: ", why);
}

void fill(const Branches& branches, std::uint64_t size) {
  std::uint32_t seed = 0;
  for (const char* name : {"f", "g", "h", "k", "n", "o", "p", "q", "d/x"}) {
    branches.add(std::string("low2/") + name, pattern(++seed, 0, size));
  }
  for (const char* name : {"low2/d/y", "low2/e/one", "low2/gone/a", "low1/d/w", "low1/m/i"}) {
    branches.add(name, pattern(++seed, 0, 10));
  }
  REQUIRE(symlink("f", branches.path("low2/t").c_str()) == 0);
  REQUIRE(setxattr(branches.path("low2/k").c_str(), "user.color", "red", 3, 0) == 0);
  branches.add("low2/linked", pattern(99, 0, size));
  host::create_hard_link(branches.path("low2/linked"), branches.path("low2/e/linked"));
  branches.finish();
}

Script content_script(std::uint64_t size) {
  const std::string large = pattern(50, 0, 70'000);
  const std::string third = pattern(51, 0, std::max<std::uint64_t>(1, size / 3));
  auto punched = [](const char* path, std::uint64_t offset, std::uint64_t length) {
    return [=](Root& root) { return punch(root, path, offset, length); };
  };
  return {
      {"append", [](Root& r) { return append(r, "/f", "first"); }, bytes_of("/f")},
      {"append again", [=](Root& r) { return append(r, "/f", large); }, bytes_of("/f")},
      {"write in the middle", [=](Root& r) { return write_at(r, "/g", size / 3, third); },
       bytes_of("/g")},
      {"write over the end", [=](Root& r) { return write_at(r, "/g", size - 5, large); },
       bytes_of("/g")},
      {"write and fsync", [=](Root& r) { return write_at(r, "/q", size / 2, third, true); },
       bytes_of("/q")},
      {"write behind the end", [=](Root& r) { return write_at(r, "/q", size + 200'000, third); },
       bytes_of("/q")},
      {"shorten", [=](Root& r) { return truncate(r, "/h", size / 2); }},
      {"lengthen what was shortened", [=](Root& r) { return truncate(r, "/h", size + 9); }},
      {"lengthen", [=](Root& r) { return truncate(r, "/k", size + 100'000); }},
      {"empty by open", [](Root& r) { return open_with(r, "/n", O_WRONLY | O_TRUNC); },
       emptied("/n")},
      {"write what was emptied", [=](Root& r) { return append(r, "/n", large); }, bytes_of("/n")},
      {"empty by truncate", [](Root& r) { return truncate(r, "/o", 0); }, emptied("/o")},
      {"punch", punched("/p", size / 4, size / 2), bytes_of("/p")},
      {"punch up to the end", punched("/d/x", size / 2, size), bytes_of("/d/x")},
  };
}

Script attributes_script() {
  auto changed = [](const char* path, AttributeChanges changes) {
    return [=](Root& root) { return root.setattr(kMe, path, changes); };
  };
  AttributeChanges owner;
  owner.which = AttributeChanges::kUid;
  owner.uid = 7;
  AttributeChanges time;
  time.which = AttributeChanges::kMtime;
  time.mtime = {kOldTime + 1, 0, 0};
  return {
      {"chmod", [](Root& r) { return chmod(r, "/f", 0600); }},
      {"chmod again", [](Root& r) { return chmod(r, "/f", 0640); }},
      {"chown", changed("/g", owner)},
      {"set times", changed("/h", time)},
      {"change an extended attribute",
       [](Root& r) {
         return r.setxattr(kMe, "/k", "user.color", std::as_bytes(std::span("blue", 4)),
                           XattrMode::kReplace);
       }},
      {"remove it", [](Root& r) { return r.removexattr(kMe, "/k", "user.color"); }},
      {"chmod of a merged directory", [](Root& r) { return chmod(r, "/d", 0700); }},
      {"chmod below it", [](Root& r) { return chmod(r, "/d/x", 0600); }},
      {"chown of a directory", changed("/e", owner)},
  };
}

Script names_script() {
  auto renamed = [](const char* from, const char* to, RenameMode mode = RenameMode::kReplace) {
    return [=](Root& root) { return root.rename(kMe, from, to, mode); };
  };
  auto removed = [](const char* path) {
    return [=](Root& root) { return root.unlink(kMe, path); };
  };
  auto directory = [](const char* path) {
    return [=](Root& root) { return root.mkdir(kMe, path, 0755); };
  };
  auto removed_directory = [](const char* path) {
    return [=](Root& root) { return root.rmdir(kMe, path); };
  };
  return {
      {"unlink", removed("/f")},
      {"create over the whiteout", [](Root& r) { return make(r, "/f"); }},
      {"unlink what was created", removed("/f")},
      {"symlink over the whiteout", [](Root& r) { return r.symlink(kMe, "g", "/f"); }},
      {"rename", renamed("/g", "/g2"), both_names("/g", "/g2")},
      {"rename again", renamed("/g2", "/d/g3")},
      {"rename over a file", renamed("/h", "/k"), both_names("/h", "/k")},
      {"rename of a symbolic link", renamed("/t", "/e/t"), both_names("/t", "/e/t")},
      {"rename without replacing", renamed("/d/w", "/e/w", RenameMode::kNoReplace),
       both_names("/d/w", "/e/w")},
      {"exchange", renamed("/n", "/d/y", RenameMode::kExchange)},
      {"link", [](Root& r) { return r.link(kMe, "/d/x", "/x2"); }},
      {"link over a whiteout", [](Root& r) { return r.link(kMe, "/o", "/g"); }},
      {"unlink of a linked file", removed("/d/x")},
      {"empty a directory", removed("/gone/a")},
      {"rmdir", removed_directory("/gone")},
      {"mkdir over the whiteout", directory("/gone")},
      {"create in it", [](Root& r) { return make(r, "/gone/b"); }},
      {"rename of an upper directory that leaves a whiteout", renamed("/gone", "/went"),
       directory_at("/gone")},
      {"rename of an upper directory", renamed("/went", "/e/went")},
      {"rename of an upper directory to a whiteout", renamed("/e/went", "/gone"),
       directory_at("/e/went")},
      {"mkdir", directory("/new")},
      {"create there", [](Root& r) { return make(r, "/new/c"); }},
      {"empty another", removed("/m/i")},
      {"rename of an upper directory over an empty merged one", renamed("/new", "/m"),
       directory_at("/new")},
      {"exchange of upper directories", renamed("/m", "/gone", RenameMode::kExchange)},
      {"rename of a merged directory", renamed("/d", "/dd"), nullptr,
       kLowerDirectoriesAreRenamed ? 0 : EXDEV},
      {"rename of a lower directory", renamed("/e", "/ee"), nullptr,
       kLowerDirectoriesAreRenamed ? 0 : EXDEV},
      {"rmdir of what holds something", removed_directory("/m"), nullptr, ENOTEMPTY},
  };
}

// Both names show each change, and the file is one.
Script links_script(std::uint64_t size) {
  return {
      {"append", [](Root& r) { return append(r, "/linked", "more"); }, bytes_of_links()},
      {"write by the other name",
       [=](Root& r) { return write_at(r, "/e/linked", size / 2, "other"); }, bytes_of_links()},
      {"chmod", [](Root& r) { return chmod(r, "/linked", 0600); }},
      {"link", [](Root& r) { return r.link(kMe, "/linked", "/third"); }},
      {"unlink", [](Root& r) { return r.unlink(kMe, "/linked"); }},
      {"rename",
       [](Root& r) { return r.rename(kMe, "/e/linked", "/moved", RenameMode::kReplace); }},
  };
}

void test(std::uint64_t size, const Script& script, std::size_t every = 1) {
  if (getuid() != 0) {
    MESSAGE("SKIPPED: whiteouts on the host's volumes take root's rights");
    return;
  }
  const Branches branches;
  fill(branches, size);
  die_at_each_moment(branches, script, every);
}

TEST_CASE("content: files of 10 bytes") { test(10, content_script(10)); }
TEST_CASE("content: files of 100 KiB") { test(100 << 10, content_script(100 << 10), 3); }
TEST_CASE("content: files of 1 MiB") { test(1 << 20, content_script(1 << 20), 7); }
TEST_CASE("attributes") { test(100 << 10, attributes_script()); }
TEST_CASE("names: files of 10 bytes") { test(10, names_script()); }
TEST_CASE("names: files of 100 KiB") { test(100 << 10, names_script(), 5); }
TEST_CASE("hard links") {
  if (!kLinksOfLowerFilesStay) {
    MESSAGE("not promised: hard links of a lower file stay one file after a copy-up");
    return;
  }
  test(10, links_script(10));
  test(100 << 10, links_script(100 << 10), 3);
}

}  // namespace
}  // namespace libservices::testing
