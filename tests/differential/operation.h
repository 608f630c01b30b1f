// SPDX-License-Identifier: Apache-2.0
//
// One call on a filesystem as a plain value, what it answered, and whoever can carry it out.
//
// A script is a list of these. It holds no descriptors and no answers, only slots for open files,
// so the same script means the same to every subject, and a part of a script is a script again.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_OPERATION_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_OPERATION_H_

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace libservices::testing {

inline constexpr int kSlots = 6;

// Who makes the call: the superuser, or one of two users of whom one has a further group.
struct Caller {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
};
inline const Caller kCallers[] = {{0, 0, {}}, {1000, 1000, {}}, {1001, 1001, {2000}}};

enum class Call : std::uint8_t {
  // On names. With `itself` those of the second line act on the open file in `slot`.
  kOpen,
  kAccess,
  kMkdir,
  kMknod,
  kSymlink,
  kReadlink,
  kLink,
  kUnlink,
  kRmdir,
  kRename,
  kList,
  kStat,
  kChmod,
  kChown,
  kTruncate,
  kSetTimes,
  kGetxattr,
  kSetxattr,
  kListxattr,
  kRemovexattr,
  // On the open file in `slot`.
  kClose,
  kRead,
  kPread,
  kWrite,
  kPwrite,
  kSeek,
  kFallocate,
  kCopyRange,
  kSync,
  // For subjects that have layers, and whoever compares them; no subject of this folder has them.
  kNextLayer,     // what comes now is in a layer above
  kMark,          // in a layer: a whiteout or an opaque directory; `flags` says which
  kRestart,       // all files are closed, and a new instance goes on
  kSwitch,        // the same, and the instance is another implementation's
  kRemoveTree,    // rm -r
  kCompareTrees,  // everything is looked at
};

struct Operation {
  Call call = Call::kStat;
  int caller = 0;  // index in kCallers
  mode_t umask = 022;
  int slot = 0;
  int base = -1;       // slot of the directory that relative names start in; -1 = the root
  int other_slot = 0;  // target of copy_range
  bool itself = false;
  bool follow = true;  // a symbolic link in the last component
  std::string path;
  std::string other_path;  // new name, target of a symbolic link, or name of an attribute
  int flags = 0;           // of open, mode of access, whence, mode of fallocate or rename
  std::uint32_t mode = 0;
  std::int64_t uid = -1;  // -1 leaves it as it is
  std::int64_t gid = -1;
  std::int64_t offset = 0;
  std::int64_t other_offset = 0;
  std::uint64_t length = 0;
  std::uint32_t data = 0;  // what is written: see pattern()
};

struct Outcome {
  int error = 0;
  std::uint64_t value = 0;  // bytes moved, or the offset
  std::string text = {};    // content, names, attributes: whatever must be equal
  // Identity differs between subjects and is not compared: of kStat, and the numbers in kList.
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::map<std::string, std::uint64_t> listed = {};

  friend bool operator==(const Outcome& a, const Outcome& b) {
    return a.error == b.error && a.value == b.value && a.text == b.text;
  }
};

class Subject {
 public:
  virtual ~Subject() = default;
  virtual Outcome apply(const Operation&) = 0;
};

// `length` bytes that tell which write they came from.
std::string pattern(std::uint32_t data, std::uint64_t length);

// What kSetxattr sets: for a name of access lists one of those, right or wrong in any of its parts.
std::string attribute_value(const Operation&);

// "chmod uid 1000 /a/b 0644": for people, and complete enough to repeat the call by hand.
std::string describe(const Operation&);
std::string describe(const Outcome&);

// What kStat compares. Sizes of directories mean nothing outside one filesystem, nor do times but
// those that kSetTimes set, which are known by their nanoseconds.
std::string describe_attributes(std::uint32_t mode, std::uint64_t links, std::uint64_t uid,
                                std::uint64_t gid, std::uint64_t size, timespec mtime);
inline constexpr timespec kSetAtime{0, 5};
inline constexpr timespec kSetMtime{0, 7};
// What kSetTimes compares. Going to a link by its name may read it, which moves its access time.
std::string describe_times(timespec atime, timespec mtime, bool itself);
// What kList compares: names in order, each with its DT_ type.
std::string describe_names(std::vector<std::pair<std::string, int>> names);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_OPERATION_H_
