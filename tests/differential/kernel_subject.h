// SPDX-License-Identifier: Apache-2.0
//
// The kernel's tmpfs as the subject: the reference that the others are compared with.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_KERNEL_SUBJECT_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_KERNEL_SUBJECT_H_

#include <array>
#include <functional>
#include <string>

#include "tests/differential/operation.h"
#include "tests/differential/script.h"

namespace libservices::testing {

// Makes the calls in the calling thread, which must have a root directory and a file mode mask of
// its own, and the superuser's rights.
class KernelSubject final : public Subject {
 public:
  // The thread's root directory is the tree.
  KernelSubject() { slots_.fill(-1); }
  // The tree is in `directory`: the thread's root directory during a call, and not after it.
  explicit KernelSubject(const std::string& directory);
  ~KernelSubject() override;
  Outcome apply(const Operation&) override;

 private:
  class InTree;
  Outcome apply_here(const Operation&);
  void become(int caller, mode_t umask);
  int base(const Operation& op) const;
  Outcome on_name(const Operation&);
  Outcome on_attributes(const Operation&);
  Outcome on_file(const Operation&);

  std::array<int, kSlots> slots_;
  int caller_ = 0;
  int tree_ = -1;  // the tree, and the thread's own root; -1: they are the same
  int outside_ = -1;
};

// Whether this machine can: root's rights, and a tmpfs at /dev/shm. Empty, or the reason why not.
std::string why_kernel_cannot();
ScriptOptions what_kernel_has();

// Runs `work` in a thread that has the directory as its root during each call of the subject.
void on_directory(const std::string& directory, const std::function<void(Subject&)>& work);
// Runs `work` in a thread whose root is a fresh directory of tmpfs, and removes that afterwards.
void on_fresh_tmpfs(const std::function<void(Subject&)>& work);

// Ids of users, and the same of groups: what is stored from `stored` on is shown from 0 on.
struct ShownIds {
  unsigned stored;
  unsigned count;
};
// Whether this kernel has idmapped mounts of tmpfs, as it does since 6.3.
bool has_idmapped_tmpfs();
// The same in an idmapped mount, whose directory `prepare` makes something in by stored ids.
void on_idmapped_tmpfs(const ShownIds& ids, const std::function<void(const std::string&)>& prepare,
                       const std::function<void(Subject&)>& work);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_KERNEL_SUBJECT_H_
