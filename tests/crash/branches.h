// SPDX-License-Identifier: Apache-2.0
//
// The branches of a union on tmpfs, the union over them, and what a test does with it in one line.
#ifndef LIBSERVICES_TESTS_CRASH_BRANCHES_H_
#define LIBSERVICES_TESTS_CRASH_BRANCHES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "libservices/filesystem.h"
#include "libservices/layers/faulty.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

using Stack = Union<Faulty<Local>, Local>;
using Root = Filesystem<Stack>;

// A test starts thousands of them, and each takes the memory of its cache at the start.
inline constexpr FilesystemOptions kSmallCache{.cached_names = 256};

inline constexpr std::int64_t kOldTime = 1'000'000'000;  // of all that lies in the lowers

// Bytes that say which `seed` they are from, and where they belong.
std::string pattern(std::uint32_t seed, std::uint64_t offset, std::uint64_t length);

// Two lowers, an upper and its work directory.
class Branches {
 public:
  Branches();

  std::string path(std::string_view name) const { return top_.path() + "/" + std::string(name); }
  // A file of a lower; its directories are made.
  void add(std::string_view path, std::string_view content) const;
  // After the last add(): gives everything in the lowers its time.
  void finish() const;
  // From now on the upper and its work directory are in the directory `name` here.
  void use_volume(std::string_view name);
  // An upper that was never used.
  void empty_upper() const;
  std::size_t staged() const;

  std::string upper() const { return path(upper_); }

  Stack::Config config(std::shared_ptr<FaultPlan> plan = nullptr) const;

 private:
  const ScratchDirectory top_{kTmpfs};
  std::string upper_ = "upper";
  std::string work_ = "work";
};

// A union that runs as long as this object lives.
class Running {
 public:
  explicit Running(const Branches& branches, std::shared_ptr<FaultPlan> plan = nullptr);
  ~Running();
  Root* operator->() { return &root_; }
  Root& operator*() { return root_; }

 private:
  Root root_;
};

// One object as it is after a restart. Of times only what a copy-up must keep counts.
struct Seen {
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t links = 0;  // a directory's say which branches it has, and do not count
  bool old = false;         // its mtime is kOldTime
  std::string content;      // of a symbolic link its target
  std::string color;        // the attribute user.color
  std::string same_as;      // the first path of this object

  friend bool operator==(const Seen&, const Seen&) = default;
};
using Tree = std::map<std::string, Seen>;  // by path; the root is not in it

Tree tree_of(Root& root);
// "" if they are equal, otherwise the first difference in words.
std::string difference(const Tree& seen, const Tree& expected);

// The calls of the tests, as the superuser.
Result<void> write_at(Root& root, const std::string& path, std::uint64_t offset,
                      std::string_view text, bool synced = false);
Result<void> append(Root& root, const std::string& path, std::string_view text);
Result<void> make(Root& root, const std::string& path, std::string_view text = "");
Result<void> open_with(Root& root, const std::string& path, int flags);
Result<void> truncate(Root& root, const std::string& path, std::uint64_t size);
Result<void> punch(Root& root, const std::string& path, std::uint64_t offset, std::uint64_t length);
Result<void> chmod(Root& root, const std::string& path, std::uint32_t mode);
Result<std::string> read_all(Root& root, const std::string& path);

inline const Context kMe{};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_CRASH_BRANCHES_H_
