// SPDX-License-Identifier: Apache-2.0
//
// Filesystems of this process as subjects: one by itself, and a union whose layers a script makes
// one after the other.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_LAYERS_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_LAYERS_H_

#include <doctest/doctest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "libservices/filesystem_of.h"
#include "tests/differential/comparison.h"
#include "tests/differential/filesystem_subject.h"
#include "tests/differential/kernel_subject.h"

namespace libservices::testing {

// A filesystem that is started, and the subject on it.
template <class Stack>
struct Running {
  explicit Running(typename Stack::Config config) : fs(std::move(config)) {
    const absl::Status started = fs.start();
    REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
    subject.emplace(fs);
  }
  ~Running() {
    subject.reset();
    CHECK(fs.counters().open_files == 0);
    CHECK(fs.stop().ok());
  }
  FilesystemOf<Stack> fs;
  std::optional<FilesystemSubject> subject;
};

template <class Stack>
void run_on(typename Stack::Config config, const std::function<void(Subject&)>& work) {
  Running<Stack> running(std::move(config));
  work(*running.subject);
}

inline WithFresh without_directory_links(const WithFresh& fresh) {
  return [fresh](const std::function<void(Subject&)>& work) {
    fresh([&](Subject& subject) {
      WithoutDirectoryLinks wrapped(subject);
      work(wrapped);
    });
  };
}

// Over layers that hold files, whiteouts and opaque directories: the calls before the first
// kNextLayer make the lowest layer, the next ones the layer above it through a union, and so on.
// What is different by design is left out on both sides: names of one file that lie in different
// layers come apart at a copy-up, since a layer does not hold its index.
class OnLayers final : public Subject {
 public:
  static constexpr int kLayers = 3;
  // What the calls on layer `layer` go to.
  using Enter = std::function<Subject&(int layer)>;

  explicit OnLayers(Enter enter) : enter_(std::move(enter)), subject_(&enter_(0)) {}

  Outcome apply(const Operation& op) override {
    if (op.call == Call::kNextLayer) {
      Operation close;
      close.call = Call::kClose;
      for (close.slot = 0; close.slot < kSlots; ++close.slot) (void)subject_->apply(close);
      subject_ = &enter_(++layer_);
      return {};
    }
    if (op.call == Call::kLink && layer_ + 2 < kLayers) return {};
    return subject_->apply(op);
  }

 private:
  const Enter enter_;
  Subject* subject_;
  int layer_ = 0;
};

inline void layers_on_tmpfs(const std::function<void(Subject&)>& work) {
  on_fresh_tmpfs([&](Subject& kernel) {
    OnLayers subject([&](int) -> Subject& { return kernel; });
    work(subject);
  });
}

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_LAYERS_H_
