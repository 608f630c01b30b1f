// SPDX-License-Identifier: Apache-2.0
#include "tests/differential/script.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libservices/open_flags.h"
#include "tests/differential/choices.h"

namespace libservices::testing {
namespace {

class Generator : Choices {
 public:
  Generator(std::uint64_t seed, const ScriptOptions& options) : Choices(seed), options_(options) {}

  Operation next();

 private:
  std::string name();
  std::string path();
  Call call();
  int open_flags();

  ScriptOptions options_;
};

std::string Generator::name() {
  if (one_in(60)) return std::string(pick({255, 256}), 'x');
  if (one_in(25)) return ".";
  if (one_in(20)) return "..";
  return pick({"a", "b", "c", "d", "e"});
}

std::string Generator::path() {
  if (one_in(80)) return "";
  if (one_in(100)) return "/";
  std::string made = one_in(3) ? "/" : "";
  for (std::uint64_t depth = 1 + below(3); depth > 0; --depth) {
    made += name();
    if (depth > 1) made += one_in(20) ? "//" : "/";
  }
  if (one_in(15)) made += "/";
  return made;
}

Call Generator::call() {
  return pick_call({
      {Call::kOpen, 22},      {Call::kAccess, 3},   {Call::kMkdir, 12},    {Call::kMknod, 3},
      {Call::kSymlink, 8},    {Call::kReadlink, 3}, {Call::kLink, 7},      {Call::kUnlink, 7},
      {Call::kRmdir, 4},      {Call::kRename, 14},  {Call::kList, 4},      {Call::kStat, 12},
      {Call::kChmod, 7},      {Call::kChown, 6},    {Call::kTruncate, 4},  {Call::kSetTimes, 3},
      {Call::kClose, 3},      {Call::kRead, 7},     {Call::kPread, 4},     {Call::kWrite, 10},
      {Call::kPwrite, 5},     {Call::kSeek, 5},     {Call::kFallocate, 3}, {Call::kCopyRange, 3},
      {Call::kSync, 1},       {Call::kGetxattr, 2}, {Call::kSetxattr, 8},  {Call::kListxattr, 2},
      {Call::kRemovexattr, 1}});
}

int Generator::open_flags() {
  if (one_in(12)) return O_RDONLY | O_DIRECTORY;
  if (one_in(30)) return O_PATH | (one_in(2) ? O_NOFOLLOW : 0);
  if (one_in(40)) return O_TMPFILE | pick({O_WRONLY, O_RDWR});
  int flags = pick({O_RDONLY, O_WRONLY, O_RDWR});
  if (!one_in(3)) flags |= O_CREAT;
  if (one_in(5)) flags |= O_EXCL & ((flags & O_CREAT) != 0 ? ~0 : 0);
  if (one_in(5)) flags |= O_TRUNC;
  if (one_in(6)) flags |= O_APPEND;
  // Linux refuses to create through another user's link in a sticky directory.
  if (one_in(12) && (flags & O_CREAT) == 0) flags |= O_NOFOLLOW;
  return flags;
}

Operation Generator::next() {
  Operation op;
  const auto about_xattrs = [&] {
    return op.call >= Call::kGetxattr && op.call <= Call::kRemovexattr;
  };
  do {
    op.call = call();
  } while (!options_.xattrs && about_xattrs());
  op.caller = static_cast<int>(one_in(3) ? 1 + below(2) : 0);
  op.umask = pick({022, 022, 022, 0, 077});
  op.slot = static_cast<int>(below(kSlots));
  op.other_slot = static_cast<int>(below(kSlots));
  op.base = one_in(6) ? static_cast<int>(below(kSlots)) : -1;
  op.itself = op.call >= Call::kStat && op.call <= Call::kRemovexattr && one_in(4);
  // Of these the kernel has no form that starts in a directory.
  const bool from_root = op.call == Call::kTruncate || op.call == Call::kGetxattr ||
                         op.call == Call::kSetxattr || op.call == Call::kListxattr ||
                         op.call == Call::kRemovexattr;
  if (from_root) op.base = -1;
  // These always follow, unless a flag of open says otherwise.
  op.follow = op.call == Call::kTruncate || op.call == Call::kOpen || !one_in(3);
  op.path = path();
  op.mode = pick({0644, 0755, 0777, 0700, 0600, 0666, 0, 0444, 01777, 02775, 02755, 04755, 06777});
  if (!options_.sticky) op.mode &= ~unsigned{S_ISVTX};
  op.data = static_cast<std::uint32_t>(below(1000));
  op.offset = static_cast<std::int64_t>(one_in(3) ? below(20000) : below(100));
  op.other_offset = static_cast<std::int64_t>(one_in(3) ? below(20000) : below(100));
  op.length = one_in(3) ? below(12000) : below(60);
  switch (op.call) {
    case Call::kOpen:
      op.flags = open_flags();
      break;
    case Call::kAccess:
      op.flags = static_cast<int>(below(8));
      break;
    case Call::kMknod:
      op.mode = (op.mode & 07777) | pick({unsigned{S_IFREG}, unsigned{S_IFIFO}});
      break;
    case Call::kSymlink:
      op.other_path = path();
      break;
    case Call::kLink:
      op.other_path = path();
      if (!options_.links_by_users) op.caller = 0;
      break;
    case Call::kRename:
      // Which of two wrong names is reported is nobody's business.
      if (op.path.size() > NAME_MAX) op.path = "a";
      op.other_path = path();
      if (op.other_path.size() > NAME_MAX) op.other_path = "b";
      op.flags = pick({0, 0, 0, 0, 1, 2});
      break;
    case Call::kChown:
      op.uid = pick<std::int64_t>({-1, 0, 1000, 1001});
      op.gid = pick<std::int64_t>({-1, 0, 1000, 1001, 2000});
      if (op.uid < 0 && op.gid < 0) op.uid = 0;  // asks for nothing, and yet clears set-id bits
      break;
    case Call::kSeek:
      op.flags = pick({SEEK_SET, SEEK_CUR, SEEK_END});
      if (one_in(3)) op.offset = -op.offset;
      break;
    case Call::kFallocate:
      op.flags = pick({0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       FALLOC_FL_PUNCH_HOLE});
      break;
    case Call::kSetTimes:
      op.flags = static_cast<int>(below(2));
      break;
    case Call::kGetxattr:
    case Call::kSetxattr:
    case Call::kRemovexattr:
      pick_attribute(op);
      if (options_.access_lists && one_in(2)) {
        op.other_path = pick({"system.posix_acl_access", "system.posix_acl_default"});
      }
      break;
    default:
      break;
  }
  return op;
}

}  // namespace

std::vector<Operation> make_script(std::uint64_t seed, std::size_t length,
                                   const ScriptOptions& options) {
  Generator generator(seed, options);
  std::vector<Operation> script;
  // A tree in which users may do something: else most of their calls end in EACCES at the root.
  Operation open_root;
  open_root.call = Call::kChmod;
  open_root.path = "/";
  open_root.mode = options.sticky && seed % 3 == 0 ? 01777 : 0777;
  script.push_back(open_root);
  while (script.size() < length) {
    script.push_back(generator.next());
    const Operation& last = script.back();
    if (last.call >= Call::kMkdir && last.call < Call::kClose && last.call != Call::kStat &&
        script.size() % 3 == 0) {
      Operation look = last;  // what a change did to its object, before the next one hides it
      look.call = Call::kStat;
      look.caller = 0;
      script.push_back(look);
    }
  }
  return script;
}

}  // namespace libservices::testing
