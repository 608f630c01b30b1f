// SPDX-License-Identifier: Apache-2.0
#include "tests/union/script.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "tests/differential/choices.h"
#include "tests/union/lockstep.h"
#include "tests/union/merge.h"

namespace libservices::testing {
namespace {

class Generator : Choices {
 public:
  Generator(std::uint64_t seed, const Expect& expect, const ScriptOptions& options, Subject& model)
      : Choices(seed), expect_(expect), options_(options), model_(model) {}

  std::vector<Operation> make(Course course);

 private:
  std::string any_path();
  // Mostly where something is, of those in the list; where nothing is, in a directory.
  std::string old_path(const std::vector<std::string>& among);
  std::string old_path() { return old_path(one_in(2) ? directories_ : others_); }
  std::string new_path();
  void look();
  void look_in(const std::string& directory);
  std::int64_t offset();
  std::uint64_t length();
  Operation fresh(Call call);
  void push(Operation op) {
    if (op.call != Call::kCompareTrees) (void)apply_to(model_, op);
    script_.push_back(std::move(op));
  }
  void push(Call call) { push(fresh(call)); }

  void layer(bool is_upper);
  void populate(bool is_upper);
  void file_in_layer();
  void changes(unsigned count);
  void change();
  void write_to_file();
  void read_file();
  void on_open_file(int slot);
  void replace_directory();
  void on_name(Operation op);

  const Expect expect_;
  const ScriptOptions options_;
  bool in_layer_ = true;
  Subject& model_;
  std::vector<Operation> script_;
  std::vector<std::string> directories_;  // of the model, but for the root
  std::vector<std::string> others_;
};

std::string Generator::any_path() {
  std::string made;
  for (std::uint64_t depth = pick({1, 1, 2, 2, 2, 3}); depth > 0; --depth) {
    made += pick({"/a", "/b", "/c", "/d"});
  }
  return made;
}

std::string Generator::old_path(const std::vector<std::string>& among) {
  return among.empty() || one_in(6) ? any_path() : among[below(among.size())];
}

std::string Generator::new_path() {
  if (directories_.empty() || one_in(4)) return any_path();
  const std::string& directory = directories_[below(directories_.size())];
  return (directory.size() < 8 ? directory : "") + pick({"/a", "/b", "/c", "/d"});
}

void Generator::look() {
  directories_.clear();
  others_.clear();
  look_in("");
}

void Generator::look_in(const std::string& directory) {
  Operation list;
  list.call = Call::kList;
  list.path = directory + "/";
  const std::string names = model_.apply(list).text;
  for (std::size_t at = 0; at < names.size(); at = names.find(' ', at) + 1) {
    const std::string name = names.substr(at, names.find(':', at) - at);
    if (name == "." || name == "..") continue;
    const bool is_directory = names.compare(at + name.size(), 3, ":4 ") == 0;
    (is_directory ? directories_ : others_).push_back(directory + "/" + name);
    if (is_directory) look_in(directory + "/" + name);
  }
}

std::int64_t Generator::offset() {
  return static_cast<std::int64_t>(
      pick({below(100), below(9000), 4096 * below(64), below(300000)}));
}

std::uint64_t Generator::length() {
  return pick<std::uint64_t>({0, below(100), below(9000), 4096, 65536, below(150000)});
}

Operation Generator::fresh(Call call) {
  Operation op;
  op.call = call;
  op.caller = in_layer_ || !one_in(6) ? 0 : static_cast<int>(1 + below(2));
  op.umask = pick({022, 0, 0});
  op.slot = static_cast<int>(below(kSlots));
  op.follow = false;
  const bool makes = call == Call::kMkdir || call == Call::kMknod || call == Call::kSymlink ||
                     call == Call::kMark || (call == Call::kOpen && in_layer_);
  const bool wants_file = call == Call::kOpen || call == Call::kTruncate || call == Call::kUnlink ||
                          call == Call::kLink;
  op.path = makes                  ? new_path()
            : wants_file           ? old_path(others_)
            : call == Call::kRmdir ? old_path(directories_)
                                   : old_path();
  op.mode = pick({0644, 0755, 0777, 0700, 0600, 0666, 0444, 01777, 02775, 04755});
  if (!options_.sticky) op.mode &= ~unsigned{S_ISVTX};
  op.data = static_cast<std::uint32_t>(below(1000));
  op.offset = offset();
  op.other_offset = offset();
  op.length = length();
  switch (call) {
    case Call::kTruncate:
      if (!expect_.emptying_changes_time && op.offset == 0) op.offset = 1;
      [[fallthrough]];
    case Call::kOpen:
      op.follow = true;
      break;
    case Call::kMknod:
      op.mode = (op.mode & 07777) | S_IFIFO;
      break;
    case Call::kSymlink:
      op.other_path = pick({old_path(), std::string("a"), std::string("../b")});
      break;
    case Call::kLink:
      op.other_path = new_path();
      if (!options_.links_by_users) op.caller = 0;
      break;
    case Call::kRename:
      op.flags = pick({0, 0, 0, 1, 2});
      op.other_path = op.flags == 2 || one_in(3) ? old_path() : new_path();
      break;
    case Call::kAccess:
      op.flags = static_cast<int>(below(8));
      break;
    case Call::kChown:
      op.uid = pick<std::int64_t>({-1, 0, 1000, 1001});
      op.gid = op.uid < 0 ? 2000 : pick<std::int64_t>({-1, 0, 1000});
      break;
    case Call::kFallocate:
      op.flags = pick({0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE});
      break;
    case Call::kSeek:
      op.flags = pick({SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, SEEK_DATA, SEEK_HOLE});
      break;
    case Call::kGetxattr:
    case Call::kSetxattr:
    case Call::kRemovexattr:
      pick_attribute(op);
      break;
    default:
      break;
  }
  return op;
}

void Generator::file_in_layer() {
  Operation open = fresh(Call::kOpen);
  open.flags = O_WRONLY | O_CREAT | O_EXCL;
  Operation on_file = open;
  push(open);
  for (std::uint64_t writes = below(4); writes > 0; --writes) {
    Operation write = fresh(Call::kPwrite);
    write.slot = open.slot;
    push(write);
  }
  if (one_in(3)) {  // a hole at the end, or a file cut short
    Operation cut = fresh(Call::kTruncate);
    cut.slot = open.slot;
    cut.itself = true;
    push(cut);
  }
  Operation close = fresh(Call::kClose);
  close.slot = open.slot;
  push(close);
}

void Generator::populate(bool is_upper) {
  const Call call = pick_call({{Call::kMkdir, 30},
                               {Call::kOpen, 26},
                               {Call::kMark, 18},
                               {Call::kSymlink, 5},
                               {Call::kMknod, 3},
                               {Call::kLink, 6},
                               {Call::kChmod, 3},
                               {Call::kChown, 3},
                               {Call::kSetxattr, 6},
                               {Call::kSetTimes, 6}});
  if (call == Call::kOpen) return file_in_layer();
  if (call == Call::kLink && !is_upper && !expect_.hard_links_survive) return;
  if (call == Call::kSetxattr && !options_.xattrs) return;
  Operation op = fresh(call);
  if (call == Call::kMkdir && one_in(2)) op.path = op.path.substr(0, 2);
  if (call == Call::kMark && is_upper && !expect_.stray_whiteouts) {
    op.flags = static_cast<int>(Mark::kOpaque);
  } else if (call == Call::kMark) {
    // Overlayfs knows the attribute in lowers alone.
    const bool attribute = expect_.attribute_whiteouts && !is_upper;
    op.flags = static_cast<int>(pick(
        {Mark::kOpaque, Mark::kWhiteout, attribute ? Mark::kAttributeWhiteout : Mark::kWhiteout}));
  }
  if (call == Call::kMark && op.flags == static_cast<int>(Mark::kOpaque)) {
    op.path = old_path(directories_);
  }
  push(op);
}

void Generator::layer(bool is_upper) {
  // Directories that merge with those of the layer below.
  for (const std::string& below_it : std::exchange(directories_, {})) {
    if (one_in(2)) continue;
    Operation op = fresh(Call::kMkdir);
    op.path = below_it;
    push(op);
  }
  for (std::uint64_t count = is_upper ? below(2) * below(20) : 10 + below(30); count > 0; --count) {
    populate(is_upper);
    look();
  }
}

void Generator::on_open_file(int slot) {
  Operation op = fresh(pick_call({{Call::kPwrite, 8},
                                  {Call::kWrite, 8},
                                  {Call::kPread, 6},
                                  {Call::kRead, 3},
                                  {Call::kSeek, 6},
                                  {Call::kTruncate, 6},
                                  {Call::kFallocate, 6},
                                  {Call::kCopyRange, 4},
                                  {Call::kStat, 3},
                                  {Call::kChmod, 1},
                                  {Call::kChown, 1},
                                  {Call::kSetTimes, 1},
                                  {Call::kSetxattr, options_.xattrs ? 1 : 0U},
                                  {Call::kSync, 1}}));
  op.slot = slot;
  op.other_slot = static_cast<int>(below(kSlots));
  op.itself = op.call < Call::kClose;
  if (op.call == Call::kPread) op.length = 1 << 20;
  push(op);
}

void Generator::write_to_file() {
  Operation open = fresh(Call::kOpen);
  open.flags = pick({O_WRONLY, O_RDWR});
  if (one_in(2)) open.flags |= O_CREAT;
  if (one_in(6)) open.flags |= O_TRUNC;
  if (one_in(6)) open.flags |= O_APPEND;
  push(open);
  for (std::uint64_t calls = 1 + below(3); calls > 0; --calls) on_open_file(open.slot);
  if (one_in(3)) return;
  Operation close = fresh(Call::kClose);
  close.slot = open.slot;
  push(close);
}

void Generator::read_file() {
  Operation open = fresh(Call::kOpen);
  open.flags = O_RDONLY;
  if (one_in(3)) {
    open.flags |= O_DIRECTORY;
    open.path = old_path(directories_);
  }
  push(open);
  for (const Call call : {Call::kPread, Call::kSeek, Call::kStat}) {
    Operation op = fresh(call);
    op.slot = open.slot;
    op.itself = call == Call::kStat;
    push(op);
  }
}

void Generator::replace_directory() {
  const std::string at = old_path();
  for (const Call call : {Call::kRemoveTree, Call::kMkdir, Call::kOpen, Call::kClose}) {
    Operation op = fresh(call);
    op.caller = 0;
    op.slot = 0;
    op.path = at + (call == Call::kOpen ? "/z" : "");
    op.flags = O_WRONLY | O_CREAT;
    push(op);
  }
}

// Some calls start in a directory that was opened earlier, whatever has become of its name.
void Generator::on_name(Operation op) {
  const bool may_start_elsewhere = op.call != Call::kTruncate && op.call != Call::kGetxattr &&
                                   op.call != Call::kSetxattr && op.call != Call::kListxattr &&
                                   op.call != Call::kRemovexattr;
  if (may_start_elsewhere && one_in(12)) {
    op.base = static_cast<int>(below(kSlots));
    op.path.erase(0, 1);
    if (op.call == Call::kList) op.path = ".";
    if (!op.other_path.empty() && op.call != Call::kSymlink && one_in(2)) op.other_path.erase(0, 1);
  }
  push(op);
  // What it did to its objects, before the next one hides it.
  Operation look = op;
  look.call = Call::kStat;
  look.caller = 0;
  push(look);
  if (op.call != Call::kRename && op.call != Call::kLink) return;
  look.path = op.other_path;
  push(look);
}

void Generator::change() {
  if (one_in(5)) return write_to_file();
  if (one_in(12)) return read_file();
  if (one_in(10)) return on_open_file(static_cast<int>(below(kSlots)));
  if (one_in(30)) return replace_directory();
  const Call call = pick_call({{Call::kMkdir, 8},
                               {Call::kRename, 20},
                               {Call::kUnlink, 8},
                               {Call::kRmdir, 5},
                               {Call::kSymlink, 4},
                               {Call::kLink, 8},
                               {Call::kMknod, 2},
                               {Call::kChmod, 5},
                               {Call::kChown, 5},
                               {Call::kSetTimes, 5},
                               {Call::kTruncate, 6},
                               {Call::kList, 4},
                               {Call::kReadlink, 2},
                               {Call::kAccess, 2},
                               {Call::kGetxattr, 2},
                               {Call::kSetxattr, 5},
                               {Call::kListxattr, 1},
                               {Call::kRemovexattr, 2}});
  const bool on_xattrs = call >= Call::kGetxattr && call <= Call::kRemovexattr;
  if (!on_xattrs || options_.xattrs) on_name(fresh(call));
}

void Generator::changes(unsigned count) {
  for (unsigned i = 1; i <= count; ++i) {
    if (i % 4 == 1) look();
    change();
    if (i % 20 == 0) push(Call::kCompareTrees);
  }
  push(Call::kCompareTrees);
}

std::vector<Operation> Generator::make(Course course) {
  for (std::uint64_t lowers = 2 + below(3); lowers > 0; --lowers) {
    layer(false);
    push(Call::kNextLayer);
  }
  layer(true);
  in_layer_ = false;
  if (course == Course::kLooks) {
    push(Call::kRestart);
    push(Call::kCompareTrees);
    return std::move(script_);
  }
  const Call other = course == Course::kSwitches ? Call::kSwitch : Call::kRestart;
  for (const Call next : {Call::kRestart, Call::kRestart, other, other}) {
    push(next);
    push(Call::kCompareTrees);
    changes(60);
  }
  push(Call::kRestart);
  push(Call::kCompareTrees);
  return std::move(script_);
}

}  // namespace

std::vector<Operation> make_union_script(std::uint64_t seed, Course course, const Expect& expect,
                                         const ScriptOptions& options, Subject& model) {
  return Generator(seed, expect, options, model).make(course);
}

}  // namespace libservices::testing
