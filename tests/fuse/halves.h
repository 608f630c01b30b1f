// SPDX-License-Identifier: Apache-2.0
//
// Scripts of calls whose one half goes through a mount and whose other half goes past it.
#ifndef LIBSERVICES_TESTS_FUSE_HALVES_H_
#define LIBSERVICES_TESTS_FUSE_HALVES_H_

#include <utility>
#include <vector>

#include "src/fuse/session.h"
#include "tests/differential/operation.h"

namespace libservices::testing {

// A file stays with the half that its slot belongs to; calls on names take turns.
inline bool goes_past_the_mount(const Operation& op) {
  if (op.itself || op.call >= Call::kClose || op.call == Call::kOpen) return op.slot % 2 != 0;
  if (op.base >= 0) return op.base % 2 != 0;
  return (op.path.size() + static_cast<unsigned>(op.call) + op.data) % 2 != 0;
}
// No call takes files of both.
inline bool needs_both(const Operation& op) {
  const bool past = goes_past_the_mount(op);
  if (op.base >= 0 && (op.base % 2 != 0) != past) return true;
  return op.call == Call::kCopyRange && (op.other_slot % 2 != 0) != past;
}

// The kernel decides these by the owner that it has last been told, without asking again
// (docs/semantics.md): a look before tells it.
inline bool hangs_on_owner(Call call) {
  return call == Call::kChmod || call == Call::kChown || call == Call::kSetTimes ||
         call == Call::kSetxattr || call == Call::kRemovexattr;
}

class Halves final : public Subject {
 public:
  Halves(Subject& mount, Subject& past) : mount_(mount), past_(past) {}
  Outcome apply(const Operation& op) override {
    if (needs_both(op)) return {};
    if (!goes_past_the_mount(op)) {
      if (hangs_on_owner(op.call)) {
        Operation look = op;
        look.call = Call::kStat;
        (void)mount_.apply(look);
      }
      return mount_.apply(op);
    }
    Outcome outcome = past_.apply(op);
    fuse::Session::deliver_notices();  // of a filesystem in this process: as a service does it
    return outcome;
  }

 private:
  Subject& mount_;
  Subject& past_;
};

class WithoutBoth final : public Subject {
 public:
  explicit WithoutBoth(Subject& subject) : subject_(subject) {}
  Outcome apply(const Operation& op) override {
    return needs_both(op) ? Outcome{} : subject_.apply(op);
  }

 private:
  Subject& subject_;
};

// Whoever passes through leaves set-id bits in place (docs/fuse.md).
inline std::vector<Operation> without_set_id(std::vector<Operation> script) {
  for (Operation& op : script) op.mode &= ~06000U;
  return script;
}

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_HALVES_H_
