// SPDX-License-Identifier: Apache-2.0
//
// What composing at compile time is worth: 1 to 8 layers that pass everything on, over one leaf,
// composed as types, beside the same layers behind virtual calls.
//
// In both, the layer is `PassThrough<Lower>` and the leaf is `Leaf`. Composed as types, Lower is
// the next layer. Behind virtual calls, Lower is a `Reference` to an `AbstractService`, so each
// layer costs one virtual call, and the compiler is not told what stands behind it.
//
// Prints one JSON object for bench/harness.py (bench/README.md has the form). Times are medians
// over rounds in which both kinds and all depths take turns; one operation is timed in batches of
// 4,096, so that reading the clock costs nothing.
#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/libservice.h"

namespace libservices {
namespace {

constexpr int kDeepest = 8;
constexpr int kRounds = 31;
constexpr int kBatch = 4096;
constexpr std::size_t kReadBytes = 4096;

// One directory with one file: what a cache answers from memory, so that the layers above weigh.
class Leaf {
 public:
  struct Config {};
  using Node = std::uint32_t;  // 0 is the root, 1 the file
  using File = std::uint32_t;

  explicit Leaf(Config) {
    attributes_[0].inode = 1;
    attributes_[0].mode = S_IFDIR | 0755U;
    attributes_[1].inode = 2;
    attributes_[1].mode = S_IFREG | 0644U;
    attributes_[1].size = content_.size();
  }

  Result<Entry<Node>> root(const Context&) { return Entry<Node>{0, attributes_[0]}; }
  Result<Entry<Node>> lookup(const Context&, const Node& directory, std::string_view name) {
    if (directory != 0) return Errno{ENOTDIR};
    if (name != "file") return Errno{ENOENT};
    return Entry<Node>{1, attributes_[1]};
  }
  Result<Attributes> getattr(const Context&, const Node& node) { return attributes_[node]; }
  Result<Opened<File>> open(const Context&, const Node& node, OpenFlags) {
    return Opened<File>{node, attributes_[node]};
  }
  Result<std::size_t> read(const Context&, File& file, std::uint64_t offset,
                           std::span<std::byte> into) {
    if (file != 1) return Errno{EISDIR};
    if (offset >= content_.size()) return std::size_t{0};
    const std::size_t count = std::min(into.size(), content_.size() - offset);
    std::memcpy(into.data(), content_.data() + offset, count);
    return count;
  }
  Result<void> close(const Context&, File&) { return {}; }
  Result<void> readdir(const Context&, File&, std::uint64_t after, Listing, EntrySink sink) {
    if (after == 0) {
      sink({.name = "file", .inode = 2, .type = DT_REG, .cookie = 1, .attributes = nullptr});
    }
    return {};
  }

 private:
  std::array<Attributes, 2> attributes_;
  alignas(64) std::array<std::byte, kReadBytes> content_{};
};
static_assert(ReadableService<Leaf>);

template <ReadableService Lower>
class PassThrough {
 public:
  struct Config {
    typename Lower::Config lower;
  };
  using Node = typename Lower::Node;
  using File = typename Lower::File;

  explicit PassThrough(Config config) : lower_(std::move(config.lower)) {}

  Result<Entry<Node>> root(const Context& context) { return lower_.root(context); }
  Result<Entry<Node>> lookup(const Context& context, const Node& directory, std::string_view name) {
    return lower_.lookup(context, directory, name);
  }
  Result<Attributes> getattr(const Context& context, const Node& node) {
    return lower_.getattr(context, node);
  }
  Result<Opened<File>> open(const Context& context, const Node& node, OpenFlags flags) {
    return lower_.open(context, node, flags);
  }
  Result<std::size_t> read(const Context& context, File& file, std::uint64_t offset,
                           std::span<std::byte> into) {
    return lower_.read(context, file, offset, into);
  }
  Result<void> close(const Context& context, File& file) { return lower_.close(context, file); }
  Result<void> readdir(const Context& context, File& file, std::uint64_t after, Listing wanted,
                       EntrySink sink) {
    return lower_.readdir(context, file, after, wanted, sink);
  }

 private:
  Lower lower_;
};
static_assert(ReadableService<PassThrough<Leaf>>);

class AbstractService {
 public:
  using Node = Leaf::Node;
  using File = Leaf::File;

  virtual ~AbstractService() = default;
  virtual Result<Entry<Node>> root(const Context&) = 0;
  virtual Result<Entry<Node>> lookup(const Context&, const Node&, std::string_view) = 0;
  virtual Result<Attributes> getattr(const Context&, const Node&) = 0;
  virtual Result<Opened<File>> open(const Context&, const Node&, OpenFlags) = 0;
  virtual Result<std::size_t> read(const Context&, File&, std::uint64_t, std::span<std::byte>) = 0;
  virtual Result<void> close(const Context&, File&) = 0;
  virtual Result<void> readdir(const Context&, File&, std::uint64_t, Listing, EntrySink) = 0;
};

// A libservice that is somewhere else: the layer above calls it through a pointer.
class Reference {
 public:
  using Config = AbstractService*;
  using Node = AbstractService::Node;
  using File = AbstractService::File;

  explicit Reference(Config target) : target_(target) {}

  Result<Entry<Node>> root(const Context& context) { return target_->root(context); }
  Result<Entry<Node>> lookup(const Context& context, const Node& directory, std::string_view name) {
    return target_->lookup(context, directory, name);
  }
  Result<Attributes> getattr(const Context& context, const Node& node) {
    return target_->getattr(context, node);
  }
  Result<Opened<File>> open(const Context& context, const Node& node, OpenFlags flags) {
    return target_->open(context, node, flags);
  }
  Result<std::size_t> read(const Context& context, File& file, std::uint64_t offset,
                           std::span<std::byte> into) {
    return target_->read(context, file, offset, into);
  }
  Result<void> close(const Context& context, File& file) { return target_->close(context, file); }
  Result<void> readdir(const Context& context, File& file, std::uint64_t after, Listing wanted,
                       EntrySink sink) {
    return target_->readdir(context, file, after, wanted, sink);
  }

 private:
  AbstractService* target_;
};

template <ReadableService S>
class Virtual final : public AbstractService {
 public:
  explicit Virtual(typename S::Config config) : service_(std::move(config)) {}

  Result<Entry<Node>> root(const Context& context) override { return service_.root(context); }
  Result<Entry<Node>> lookup(const Context& context, const Node& directory,
                             std::string_view name) override {
    return service_.lookup(context, directory, name);
  }
  Result<Attributes> getattr(const Context& context, const Node& node) override {
    return service_.getattr(context, node);
  }
  Result<Opened<File>> open(const Context& context, const Node& node, OpenFlags flags) override {
    return service_.open(context, node, flags);
  }
  Result<std::size_t> read(const Context& context, File& file, std::uint64_t offset,
                           std::span<std::byte> into) override {
    return service_.read(context, file, offset, into);
  }
  Result<void> close(const Context& context, File& file) override {
    return service_.close(context, file);
  }
  Result<void> readdir(const Context& context, File& file, std::uint64_t after, Listing wanted,
                       EntrySink sink) override {
    return service_.readdir(context, file, after, wanted, sink);
  }

 private:
  S service_;
};

template <int kDepth>
struct Static {
  using Lower = typename Static<kDepth - 1>::Type;
  using Type = PassThrough<Lower>;
  static typename Type::Config config() { return {Static<kDepth - 1>::config()}; }
};
template <>
struct Static<0> {
  using Type = Leaf;
  static Leaf::Config config() { return {}; }
};

// The layers of a virtual stack, lowest first.
using VirtualStack = std::vector<std::unique_ptr<AbstractService>>;

VirtualStack virtual_stack(int depth) {
  VirtualStack stack;
  stack.push_back(std::make_unique<Virtual<Leaf>>(Leaf::Config{}));
  for (int layer = 0; layer < depth; ++layer) {
    stack.push_back(std::make_unique<Virtual<PassThrough<Reference>>>(
        PassThrough<Reference>::Config{stack.back().get()}));
  }
  return stack;
}

// The compiler must assume that `value` is looked at and changed here.
template <class T>
void touch(T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

using Clock = std::chrono::steady_clock;

template <class Operation>
double nanoseconds_each(Operation operation) {
  const auto start = Clock::now();
  for (int i = 0; i < kBatch; ++i) operation();
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count() / kBatch;
}

struct Times {
  std::vector<double> lookup;
  std::vector<double> getattr;
  std::vector<double> read;
};

// `S` is a stack as a type, or a Reference to the top of a virtual one.
template <class S>
void measure(S& stack, Times& times) {
  Context context;
  std::uint32_t file = 1;
  std::uint32_t directory = 0;
  std::string_view name = "file";
  alignas(64) std::array<std::byte, kReadBytes> buffer;
  times.lookup.push_back(nanoseconds_each([&] {
    touch(name);
    auto entry = stack.lookup(context, directory, name);
    touch(entry);
  }));
  times.getattr.push_back(nanoseconds_each([&] {
    touch(file);
    auto attributes = stack.getattr(context, file);
    touch(attributes);
  }));
  times.read.push_back(nanoseconds_each([&] {
    touch(buffer);
    auto count = stack.read(context, file, 0, buffer);
    touch(count);
  }));
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

template <int... kDepths>
void run(std::integer_sequence<int, kDepths...>) {
  std::array<Times, kDeepest + 1> direct;
  std::array<Times, kDeepest + 1> indirect;
  std::array<std::function<void()>, 2 * (kDeepest + 1)> turns;
  ((turns[2 * kDepths] = [&, stack = std::make_shared<typename Static<kDepths>::Type>(
                                 Static<kDepths>::config())] { measure(*stack, direct[kDepths]); }),
   ...);
  std::vector<VirtualStack> stacks;
  for (int depth = 0; depth <= kDeepest; ++depth) stacks.push_back(virtual_stack(depth));
  ((turns[2 * kDepths + 1] =
        [&] {
          Reference top(stacks[kDepths].back().get());
          measure(top, indirect[kDepths]);
        }),
   ...);
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& turn : turns) turn();
  }

  std::string rows;
  const auto add = [&](std::string_view operation, std::vector<double> Times::*samples) {
    for (int depth = 1; depth <= kDeepest; ++depth) {
      rows += fmt::format(
          "{}\n  {{\"name\": \"{}, {} layer{}\", \"layers\": {}, \"unit\": \"ns\", \"ours\": "
          "{:.2f}, "
          "\"peers\": {{\"virtual\": {:.2f}}}}}",
          rows.empty() ? "" : ",", operation, depth, depth == 1 ? "" : "s", depth,
          median(direct[static_cast<std::size_t>(depth)].*samples),
          median(indirect[static_cast<std::size_t>(depth)].*samples));
    }
  };
  add("lookup", &Times::lookup);
  add("getattr", &Times::getattr);
  add("read 4 KiB", &Times::read);
  fmt::print(
      "{{\"title\": \"stack, pass-through layers composed as types and behind virtual calls, "
      "median "
      "of {} rounds\",\n \"settings\": {{\"rounds\": {}, \"batch\": {}}},\n \"rows\": [{}]}}\n",
      kRounds, kRounds, kBatch, rows);
}

}  // namespace
}  // namespace libservices

int main() {
  libservices::run(std::make_integer_sequence<int, libservices::kDeepest + 1>());
  return 0;
}
