// SPDX-License-Identifier: Apache-2.0
#include "tests/differential/comparison.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>

namespace libservices::testing {
namespace {

struct Run {
  std::vector<Outcome> outcomes;
  Tree tree;
};

Run run(const std::vector<Operation>& script, const WithFresh& fresh) {
  Run made;
  fresh([&](Subject& subject) {
    for (const Operation& op : script) made.outcomes.push_back(subject.apply(op));
    made.tree = describe_tree(subject);
  });
  return made;
}

// Empty when equal. `at` becomes the operation that differs, or the length of the script.
std::string compare(const std::vector<Operation>& script, const Run& kernel, const Run& stack,
                    std::size_t& at) {
  for (at = 0; at < script.size(); ++at) {
    if (kernel.outcomes[at] == stack.outcomes[at]) continue;
    return fmt::format("{}\n  kernel: {}\n  stack:  {}\n", describe(script[at]),
                       describe(kernel.outcomes[at]), describe(stack.outcomes[at]));
  }
  return difference(kernel.tree, stack.tree);
}

class TreeWalk {
 public:
  explicit TreeWalk(Subject& subject) : subject_(subject) {}

  // `listed` is the number that the listing of its directory gave.
  void visit(const std::string& path, std::optional<std::uint64_t> listed = {}) {
    const Outcome found = call(Call::kStat, path);
    Seen& seen = tree_[path];
    seen = {describe(found), found.device, found.inode};
    std::string& what = seen.what;
    if (found.error != 0) return;
    if (listed && listed != found.inode) what += " listed with another inode number";
    auto [first, is_new] = first_path_.emplace(found.inode, path);
    if (!is_new) {
      what += " same as " + first->second;
      return;
    }
    if (const Outcome names = call(Call::kListxattr, path); names.error == 0) {
      for (std::string_view rest = names.text; !rest.empty();) {
        const std::size_t colon = rest.find(':');
        const std::string name(rest.substr(0, colon));
        what += fmt::format(" {}={}", name, describe(call(Call::kGetxattr, path, name)));
        rest.remove_prefix(rest.find(' ') + 1);
      }
    }
    const Outcome target = call(Call::kReadlink, path);
    if (target.error == 0) {
      what += " -> " + target.text;
      return;
    }
    const Outcome names = call(Call::kList, path);
    if (names.error == ENOTDIR) return content(path, what);
    what += " " + describe(names);
    for (std::string_view rest = names.text; !rest.empty();) {
      const std::string name(rest.substr(0, rest.find(':')));
      rest.remove_prefix(rest.find(' ') + 1);
      const auto number = names.listed.find(name);
      const bool told = number != names.listed.end();
      if (name == "." && told && number->second != found.inode) what += " '.' listed otherwise";
      if (name == "." || name == "..") continue;
      visit(path + (path.back() == '/' ? "" : "/") + name,
            told ? std::optional(number->second) : std::nullopt);
    }
  }

  Tree take() { return std::move(tree_); }

 private:
  Outcome call(Call call, const std::string& path, const std::string& other = "") {
    Operation op;
    op.call = call;
    op.path = path;
    op.other_path = other;
    op.follow = false;
    op.flags = call == Call::kOpen ? O_RDONLY | O_NOATIME : 0;
    op.length = 1 << 20;
    return subject_.apply(op);
  }
  void content(const std::string& path, std::string& what) {
    if (call(Call::kOpen, path).error != 0) return;
    what += " content " + describe(call(Call::kPread, path));
    (void)call(Call::kClose, path);
  }

  Subject& subject_;
  Tree tree_;
  std::map<std::uint64_t, std::string> first_path_;
};

}  // namespace

Tree describe_tree(Subject& subject) {
  TreeWalk walk(subject);
  walk.visit("/");
  return walk.take();
}

std::string difference(const Tree& kernel, const Tree& stack) {
  std::string text;
  for (const auto& [path, seen] : kernel) {
    auto found = stack.find(path);
    if (found == stack.end()) {
      text += fmt::format("{} is missing in the stack\n  kernel: {}\n", path, seen.what);
    } else if (found->second.what != seen.what) {
      text += fmt::format("{} differs\n  kernel: {}\n  stack:  {}\n", path, seen.what,
                          found->second.what);
    }
  }
  for (const auto& [path, seen] : stack) {
    if (!kernel.contains(path)) {
      text += fmt::format("{} is in the stack alone: {}\n", path, seen.what);
    }
  }
  return text;
}

std::string shortest_difference(std::vector<Operation> script, const Differ& differ) {
  std::size_t at = 0;
  std::string found = differ(script, at);
  if (found.empty()) return found;
  auto end_at_difference = [&] { script.resize(std::min(at + 1, script.size())); };
  end_at_difference();
  // Leave out what the difference does not need, in pieces that become smaller.
  for (std::size_t piece = script.size() / 2; piece > 0; piece /= 2) {
    for (std::size_t start = 0; start < script.size();) {
      std::vector<Operation> part(script.begin(), script.begin() + static_cast<long>(start));
      const std::size_t end = std::min(start + piece, script.size());
      part.insert(part.end(), script.begin() + static_cast<long>(end), script.end());
      if (std::string still = differ(part, at); !still.empty()) {
        script = std::move(part);
        found = std::move(still);
        end_at_difference();
      } else {
        start += piece;
      }
    }
  }
  std::string text = found + "after\n";
  for (const Operation& op : script) text += "  " + describe(op) + "\n";
  return text;
}

std::string difference(std::vector<Operation> script, const WithFresh& kernel,
                       const WithFresh& stack) {
  return shortest_difference(std::move(script),
                             [&](const std::vector<Operation>& part, std::size_t& at) {
                               return compare(part, run(part, kernel), run(part, stack), at);
                             });
}

Outcome WithoutDirectoryLinks::apply(const Operation& op) {
  Outcome outcome = subject_.apply(op);
  if (op.call == Call::kStat && outcome.text.starts_with("mode=4")) {
    const std::size_t start = outcome.text.find(" links=");
    outcome.text.erase(start, outcome.text.find(' ', start + 1) - start);
  }
  return outcome;
}

}  // namespace libservices::testing
