// SPDX-License-Identifier: Apache-2.0
#include "tests/union/lockstep.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include "tests/differential/comparison.h"
#include "tests/union/subjects.h"

namespace libservices::testing {
namespace {

using Identity = std::pair<std::uint64_t, std::uint64_t>;  // device and inode

Operation on(const Operation& like, Call call, const std::string& path) {
  Operation op;
  op.call = call;
  op.caller = like.caller;
  op.umask = like.umask;
  op.path = path;
  op.follow = false;
  return op;
}

// rm -r: goes on after errors, and answers with the last one.
Outcome remove_tree(Subject& subject, const Operation& op) {
  const Outcome whole = subject.apply(on(op, Call::kUnlink, op.path));
  if (whole.error != EISDIR) return whole;
  const Outcome names = subject.apply(on(op, Call::kList, op.path));
  for (std::string_view rest = names.text; !rest.empty();) {
    const std::string name(rest.substr(0, rest.find(':')));
    rest.remove_prefix(rest.find(' ') + 1);
    if (name != "." && name != "..") {
      (void)remove_tree(subject, on(op, Call::kRemoveTree, op.path + "/" + name));
    }
  }
  return subject.apply(on(op, Call::kRmdir, op.path));
}

// Whether a filesystem may answer SEEK_DATA or SEEK_HOLE at `op.offset` so. Where content is, it
// must say so; zeros may be a hole or not.
bool may_seek(Subject& model, const Operation& op, const Outcome& answer) {
  Operation read;
  read.call = Call::kPread;
  read.slot = op.slot;
  read.length = 1 << 20;
  const Outcome all = model.apply(read);
  if (all.error != 0) return true;  // it is not open for reading
  const std::string& content = all.text;
  const auto from = static_cast<std::size_t>(op.offset);
  if (from >= content.size()) return answer.error == ENXIO;
  const auto data = std::min(content.find_first_not_of('\0', from), content.size());
  if (op.flags == SEEK_HOLE) {
    return answer.error == 0 && answer.value >= from && answer.value <= content.size() &&
           (answer.value == content.size() || content[answer.value] == '\0');
  }
  if (answer.error == ENXIO) return data == content.size();
  return answer.error == 0 && answer.value >= from && answer.value <= data;
}

// What is compared of a subject.
class Compared final : public Subject {
 public:
  Compared(Subject& subject, const Expect& expect) : below_(subject), expect_(expect) {}
  Outcome apply(const Operation& op) override {
    Outcome outcome = below_.apply(op);
    if (op.call == Call::kStat && outcome.text.starts_with("mode=4") && !expect_.directory_times) {
      outcome.text.resize(std::min(outcome.text.find(" mtime="), outcome.text.size()));
    }
    return outcome;
  }

 private:
  WithoutDirectoryLinks below_;
  const Expect expect_;
};

class Lockstep {
 public:
  Lockstep(Subject& model, Subject& stack, const Expect& expect)
      : model_(model, expect), stack_(stack, expect), expect_(expect) {}

  // Empty when both did the same.
  std::string step(const Operation& op) {
    if (op.call == Call::kCompareTrees) return compare_trees();
    const Outcome seen = apply_to(stack_, op);
    if (seen.error == kNotDone) return "";
    const Outcome wanted = apply_to(model_, op);
    if (op.call == Call::kSwitch || (op.call == Call::kRestart && !expect_.inode_numbers_last)) {
      identities_.clear();
    }
    if (op.call == Call::kSeek && (op.flags == SEEK_DATA || op.flags == SEEK_HOLE) &&
        wanted.error != EBADF && wanted.error != ENOSYS) {
      if (!may_seek(model_, op, seen)) return differs(wanted, seen);
      Operation back = op;
      back.flags = SEEK_SET;
      back.offset = 0;
      return step(back);
    }
    if (seen != wanted) return differs(wanted, seen);
    if (op.call == Call::kStat && seen.error == 0) {
      return identity({wanted.device, wanted.inode}, {seen.device, seen.inode});
    }
    return "";
  }

 private:
  static std::string differs(const Outcome& wanted, const Outcome& seen) {
    return fmt::format("  model: {}\n  union: {}\n", describe(wanted), describe(seen));
  }

  // An object of the model is one object of the union for as long as it lives.
  std::string identity(Identity model, Identity seen) {
    auto [known, is_new] = identities_.emplace(model, seen);
    if (is_new || known->second == seen) return "";
    const std::string text =
        fmt::format("  device and inode were {}:{:#x}, and are {}:{:#x}\n", known->second.first,
                    known->second.second, seen.first, seen.second);
    known->second = seen;
    return text;
  }

  std::string compare_trees() {
    const Tree wanted = describe_tree(model_);
    const Tree seen = describe_tree(stack_);
    std::string text = difference(wanted, seen);
    if (!text.empty()) return text;
    std::map<Identity, std::string> paths;  // of the union
    for (const auto& [path, object] : seen) {
      const Seen& model = wanted.at(path);
      if (const std::string moved =
              identity({model.device, model.inode}, {object.device, object.inode});
          !moved.empty()) {
        text += path + "\n" + moved;
      }
      auto [other, is_new] = paths.emplace(std::pair(object.device, object.inode), path);
      const Seen& first = wanted.at(other->second);
      if (!is_new && first.inode != model.inode) {
        text += fmt::format("{} and {} have one inode number {:#x}\n", other->second, path,
                            object.inode);
      }
    }
    return text;
  }

  Compared model_;
  Compared stack_;
  const Expect expect_;
  std::map<Identity, Identity> identities_;  // the model's, and what the union had for it
};

}  // namespace

Outcome apply_to(Subject& subject, const Operation& op) {
  return op.call == Call::kRemoveTree ? remove_tree(subject, op) : subject.apply(op);
}

std::string first_difference(const std::vector<Operation>& script, Subject& model, Subject& stack,
                             const Expect& expect, std::size_t& at) {
  Lockstep lockstep(model, stack, expect);
  for (at = 0; at < script.size(); ++at) {
    const std::string found = lockstep.step(script[at]);
    if (!found.empty()) return describe(script[at]) + "\n" + found;
  }
  return "";
}

}  // namespace libservices::testing
