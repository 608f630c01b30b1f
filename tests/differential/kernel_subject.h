// SPDX-License-Identifier: Apache-2.0
//
// libc's calls as the subject. On the kernel's tmpfs it is the reference that the others are compared
// with.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_KERNEL_SUBJECT_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_KERNEL_SUBJECT_H_

#include <array>
#include <functional>
#include <string>

#include "tests/differential/operation.h"
#include "tests/differential/script.h"

namespace libservices::testing {

// Makes the calls in the calling thread, which must have the superuser's rights and, but as a
// program, a root directory and a file mode mask of its own.
class KernelSubject final : public Subject {
 public:
  // The thread's root directory is the tree.
  KernelSubject() { slots_.fill(-1); }
  // The tree is in `directory`: the thread's root directory during a call, and not after it.
  explicit KernelSubject(const std::string& directory);
  // The tree is in `directory`, which becomes the process's working directory and stands before
  // paths and targets that are absolute: every call is one that any program makes, in a process of
  // one thread whose ids are what changes. Whoever compares two gives them paths of equal length.
  struct AsProgram {
    std::string directory;
  };
  explicit KernelSubject(const AsProgram& program);
  ~KernelSubject() override;
  Outcome apply(const Operation&) override;

 private:
  class InTree;
  Outcome apply_here(const Operation&);
  void become(int caller, mode_t umask);
  int base(const Operation& op) const;
  std::string named(const std::string& path) const;
  Outcome on_name(const Operation&);
  Outcome on_attributes(const Operation&);
  Outcome on_file(const Operation&);

  std::array<int, kSlots> slots_;
  int caller_ = 0;
  int tree_ = -1;  // the tree, and the thread's own root; -1: they are the same
  int outside_ = -1;
  std::string prefix_;  // as a program: where the tree is
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
