// SPDX-License-Identifier: Apache-2.0
#include "tests/union/subjects.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "libservices/filesystem_of.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/differential/filesystem_subject.h"
#include "tests/differential/kernel_subject.h"
#include "tests/union/merge.h"

namespace libservices::testing {
namespace {

class Ours final : public Subject {
 public:
  using Stack = Union<Local, Local>;

  Ours(Stack::Config config, const Expect& expect) : expect_(expect), fs_(std::move(config)) {
    const absl::Status started = fs_.start();
    if (!started.ok()) throw std::runtime_error(std::string(started.message()));
    subject_ = std::make_unique<FilesystemSubject>(fs_);
  }
  ~Ours() override {
    subject_.reset();
    CHECK(fs_.counters().open_files == 0);
    CHECK(fs_.stop().ok());
  }
  Outcome apply(const Operation& op) override {
    if (op.base >= 0 && !expect_.removed_directories_are_empty) {
      Operation look;
      look.call = Call::kStat;
      look.slot = op.base;
      look.itself = true;
      if (subject_->apply(look).text.find(" links=0 ") != std::string::npos) {
        return {.error = kNotDone};
      }
    }
    Outcome outcome = subject_->apply(op);
    if (!expect_.numbers_listed) outcome.listed.clear();
    const bool not_yet = op.call == Call::kRename && outcome.error == EXDEV;
    return not_yet && !expect_.directory_renames ? Outcome{.error = kNotDone} : outcome;
  }

 private:
  const Expect expect_;
  FilesystemOf<Stack> fs_;
  std::unique_ptr<FilesystemSubject> subject_;
};

class Overlayfs final : public Subject {
 public:
  Overlayfs(std::string merged, const std::string& options, const Expect& expect)
      : expect_(expect), merged_(std::move(merged)) {
    if (mount("overlay", merged_.c_str(), "overlay", 0, options.c_str()) != 0) {
      throw std::runtime_error(std::string("mounting: ") + std::strerror(errno));
    }
    subject_ = std::make_unique<KernelSubject>(merged_);
  }
  ~Overlayfs() override {
    subject_.reset();
    CHECK(umount(merged_.c_str()) == 0);
  }
  Outcome apply(const Operation& op) override {
    Outcome outcome = subject_->apply(op);
    outcome.device = 0;  // each mount has another one
    if (op.call == Call::kRename && outcome.error == EXDEV && !expect_.directory_renames) {
      return {.error = kNotDone};
    }
    // An open file of a lower that has lost its last name may still count it.
    if (op.call == Call::kStat && op.itself && !outcome.text.starts_with("mode=4")) {
      return {.error = kNotDone};
    }
    // What is open, of a lower, and has lost its name or its directory is not copied up any more.
    if (op.itself && (outcome.error == ENOENT || outcome.error == EIO)) return {.error = kNotDone};
    return op.call == Call::kList && outcome.error == 0 ? corrected(op, outcome) : outcome;
  }

 private:
  // Listings of overlayfs differ from what it says of the names themselves (README.md): some
  // names are not there, some inode numbers are others.
  Outcome corrected(const Operation& list, const Outcome& listing) {
    Outcome outcome;
    for (std::string_view rest = listing.text; !rest.empty();) {
      const std::string_view entry = rest.substr(0, rest.find(' ') + 1);
      const std::string name(entry.substr(0, entry.find(':')));
      rest.remove_prefix(entry.size());
      Operation look = list;
      look.call = Call::kStat;
      look.caller = 0;
      look.path += "/" + name;
      look.follow = false;
      if (subject_->apply(look).error != ENOENT) outcome.text += entry;
    }
    return outcome;
  }

  const Expect expect_;
  const std::string merged_;
  std::unique_ptr<KernelSubject> subject_;
};

const char* on_or_off(bool on) { return on ? "on" : "off"; }

}  // namespace

OnLayers::OnLayers(const std::string& volume) : place_(volume) {
  subject_ = std::make_unique<KernelSubject>(next_layer());
}

std::string OnLayers::next_layer() {
  layers_.push_back(place_.directory(fmt::format("layer{}", layers_.size())));
  return layers_.back();
}

Outcome OnLayers::apply(const Operation& op) {
  switch (op.call) {
    case Call::kNextLayer:
      if (!entered_) subject_ = std::make_unique<KernelSubject>(next_layer());
      return {};
    case Call::kMark:
      if (entered_) return {};
      return {.error = set_mark(layers_.back(), op.path, static_cast<Mark>(op.flags))};
    case Call::kRestart:
    case Call::kSwitch:
      subject_.reset();
      if (layers_.size() == 1) (void)next_layer();  // a part of a script may have no second one
      if (!entered_) remove_attribute_whiteouts(layers_.back());
      entered_ = true;
      try {
        subject_ = enter(op.call);
      } catch (const std::runtime_error& failed) {
        return {.value = 1, .text = failed.what()};
      }
      return {};
    case Call::kLink:  // where the directory does not say that it has them
      if (!entered_ && is_whiteout(layers_.back() + op.path)) return {.error = EPERM};
      [[fallthrough]];
    default:
      return subject_ != nullptr ? subject_->apply(op) : Outcome{.error = ENODEV};
  }
}

std::vector<std::string> OnLayers::layers_from_top() const {
  return {layers_.rbegin(), layers_.rend()};
}

std::unique_ptr<Subject> Model::enter(Call) {
  if (tree_.empty()) {
    tree_ = place().directory("merged");
    merge_layers(layers_from_top(), tree_, place().directory("hidden"));
  }
  return std::make_unique<KernelSubject>(tree_);
}

std::unique_ptr<Subject> OnBranches::enter(Call call) {
  if (call == Call::kSwitch) {
    now_ = now_ == Implementation::kOurs ? Implementation::kOverlayfs : Implementation::kOurs;
  }
  const std::vector<std::string> layers = layers_from_top();
  if (now_ == Implementation::kOurs) {
    Union<Local, Local>::Config config;
    config.upper.directory = layers.front();
    config.upper.work = place().directory("work");
    for (std::size_t i = 1; i < layers.size(); ++i) {
      config.lowers.emplace_back().directory = layers[i];
    }
    config.durable = false;
    config.range_bytes = expect_.files_in_part ? 4096 : 0;
    return std::make_unique<Ours>(std::move(config), expect_);
  }
  std::string lowers;
  for (std::size_t i = 1; i < layers.size(); ++i) lowers += (i > 1 ? ":" : "") + layers[i];
  return std::make_unique<Overlayfs>(
      place().directory("mount"),
      fmt::format("lowerdir={},upperdir={},workdir={},redirect_dir={},index={},metacopy=off,"
                  "xino=auto",
                  lowers, layers.front(), place().directory("work"), on_or_off(expect_.directory_renames),
                  on_or_off(expect_.hard_links_survive)),
      expect_);
}

}  // namespace libservices::testing
