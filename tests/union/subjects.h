// SPDX-License-Identifier: Apache-2.0
//
// Whoever carries out the calls of a script that begins with the making of layers.
//
// The calls before the first kRestart go to plain directories, each kNextLayer to a new one above;
// the last of them is the upper. What comes then goes to what these layers show.
#ifndef LIBSERVICES_TESTS_UNION_SUBJECTS_H_
#define LIBSERVICES_TESTS_UNION_SUBJECTS_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/differential/operation.h"
#include "tests/support/scratch_directory.h"
#include "tests/union/expect.h"
#include "tests/union/volume.h"

namespace libservices::testing {

// As error of an outcome: the union does not do this call, and the model shall not either.
inline constexpr int kNotDone = -1;

class OnLayers : public Subject {
 public:
  // The layers are made in `volume`.
  explicit OnLayers(const std::string& volume);
  Outcome apply(const Operation&) final;

 protected:
  // What goes on after a kRestart or kSwitch; the subject that it gave before is gone. Throws
  // std::runtime_error where that does not start.
  virtual std::unique_ptr<Subject> enter(Call) = 0;
  std::vector<std::string> layers_from_top() const;
  const ScratchDirectory& place() const { return place_; }
  void leave() { subject_.reset(); }

 private:
  std::string next_layer();

  const ScratchDirectory place_;
  std::vector<std::string> layers_;  // from the bottom
  bool entered_ = false;
  std::unique_ptr<Subject> subject_;
};

// A copy of the merged tree: what a union must look like. kSwitch means no more than kRestart.
class Model final : public OnLayers {
 public:
  using OnLayers::OnLayers;
  ~Model() override { leave(); }

 private:
  std::unique_ptr<Subject> enter(Call) override;

  std::string tree_;
};

enum class Implementation { kOurs, kOverlayfs };

// The branches under one of the two unions. kSwitch goes to the other one.
class OnBranches final : public OnLayers {
 public:
  OnBranches(const std::string& volume, Implementation first, const Expect& expect)
      : OnLayers(volume), now_(first), expect_(expect) {}
  ~OnBranches() override { leave(); }

 private:
  std::unique_ptr<Subject> enter(Call) override;

  Implementation now_;
  const Expect expect_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_SUBJECTS_H_
