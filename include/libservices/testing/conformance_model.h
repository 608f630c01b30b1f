// SPDX-License-Identifier: Apache-2.0
//
// Conformance of random operations: each answers as a simple model does, and the trees end equal.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_MODEL_H_
#define LIBSERVICES_TESTING_CONFORMANCE_MODEL_H_

#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <random>

#include "libservices/testing/instance.h"

namespace libservices::testing {

// What a tree is, in the simplest form.
struct ModelNode {
  bool directory = false;
  std::string content;
  std::map<std::string, std::shared_ptr<ModelNode>> entries;

  bool holds(const ModelNode* node) const {
    if (node == this) return true;
    for (const auto& [name, entry] : entries) {
      if (entry->holds(node)) return true;
    }
    return false;
  }
};
using ModelPointer = std::shared_ptr<ModelNode>;

inline int model_make(ModelNode& in, const std::string& name, bool directory) {
  if (!in.entries.emplace(name, nullptr).second) return EEXIST;
  in.entries[name] = std::make_shared<ModelNode>();
  in.entries[name]->directory = directory;
  return 0;
}

inline int model_remove(ModelNode& in, const std::string& name, bool directory) {
  const auto at = in.entries.find(name);
  if (at == in.entries.end()) return ENOENT;
  if (at->second->directory != directory) return directory ? ENOTDIR : EISDIR;
  if (directory && !at->second->entries.empty()) return ENOTEMPTY;
  in.entries.erase(at);
  return 0;
}

inline int model_rename(ModelNode& from, const std::string& name, ModelNode& to,
                        const std::string& new_name) {
  const auto at = from.entries.find(name);
  if (at == from.entries.end()) return ENOENT;
  const ModelPointer object = at->second;
  if (object->holds(&to)) return EINVAL;
  if (const auto other = to.entries.find(new_name); other != to.entries.end()) {
    if (other->second == object) return 0;
    if (other->second->holds(&from)) return ENOTEMPTY;
    if (other->second->directory != object->directory) {
      return other->second->directory ? EISDIR : ENOTDIR;
    }
    if (!other->second->entries.empty()) return ENOTEMPTY;
  }
  from.entries.erase(at);
  to.entries[new_name] = object;
  return 0;
}

template <class Fs>
void check_equal(Fs& fs, const typename Fs::Node& node, const ModelNode& model) {
  std::multiset<std::string> expected;
  for (const auto& [name, entry] : model.entries) expected.insert(name);
  REQUIRE(fs.names(node) == expected);
  for (const auto& in_model : model.entries) {
    const std::string& name = in_model.first;
    const ModelPointer& entry = in_model.second;
    CAPTURE(name);
    const auto below = fs.find(node, name);
    REQUIRE(fs.attributes(below).is_directory() == entry->directory);
    if (entry->directory) {
      check_equal(fs, below, *entry);
    } else {
      REQUIRE((fs.content(below) == entry->content));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("random operations answer as a simple model does", Stack,
                          conform_model) {
  const char* given = std::getenv("LIBSERVICES_SEED");
  const unsigned seed_number =
      given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                       : std::random_device{}();
  INFO("repeat with LIBSERVICES_SEED=", seed_number);
  std::mt19937 random(seed_number);
  const auto below = [&](unsigned bound) { return static_cast<unsigned>(random()) % bound; };
  Instance<Stack> fs;
  ModelNode model{.directory = true, .content = {}, .entries = {}};
  model_make(model, "file", false);
  model.entries["file"]->content = kSeedText;
  model_make(model, "directory", true);
  model_make(*model.entries["directory"], "inner", false);
  model.entries["directory"]->entries["inner"]->content = kSeedText;
  model_make(model, "empty", true);
  const auto pick_name = [&] { return std::string(1, static_cast<char>('a' + below(5))); };
  // A random directory, by the same steps in both trees.
  const auto pick = [&] {
    auto node = fs.root();
    ModelNode* at = &model;
    for (unsigned depth = below(4); depth > 0; --depth) {
      std::vector<std::string> directories;
      for (const auto& [name, entry] : at->entries) {
        if (entry->directory) directories.push_back(name);
      }
      if (directories.empty()) break;
      const std::string& name = directories[below(static_cast<unsigned>(directories.size()))];
      node = fs.find(node, name);
      at = at->entries[name].get();
    }
    return std::pair(node, at);
  };
  for (int step = 0; step < 3000; ++step) {
    CAPTURE(step);
    const auto [node, at] = pick();
    const std::string name = pick_name();
    switch (below(7)) {
      case 0: {
        auto made = fs.service.create(fs.context, node, name, kPlain, {O_WRONLY});
        REQUIRE(error_of(made) == model_make(*at, name, false));
        if (made.ok()) fs.close(made->file);
        break;
      }
      case 1:
        REQUIRE(error_of(fs.service.mkdir(fs.context, node, name, kDirectory)) ==
                model_make(*at, name, true));
        break;
      case 2:
        REQUIRE(error_of(fs.service.unlink(fs.context, node, name)) ==
                model_remove(*at, name, false));
        break;
      case 3:
        REQUIRE(error_of(fs.service.rmdir(fs.context, node, name)) ==
                model_remove(*at, name, true));
        break;
      case 4: {
        const auto [to, to_at] = pick();
        const std::string new_name = pick_name();
        const int got = error_of(
            fs.service.rename(fs.context, node, name, to, new_name, RenameMode::kReplace));
        if (got == EXDEV) break;  // the service would have to copy: nothing was changed
        const int expected = model_rename(*at, name, *to_at, new_name);
        CAPTURE(got);
        CAPTURE(expected);
        // A file onto a directory that it is in: POSIX does not say which of the two wins.
        REQUIRE((got == expected || (got == EISDIR && expected == ENOTEMPTY)));
        break;
      }
      case 5: {
        const auto found = at->entries.find(name);
        if (found == at->entries.end() || found->second->directory) break;
        const std::uint64_t offset = below(20000);
        const std::string text(below(9000) + 1, static_cast<char>('A' + below(26)));
        auto file = fs.open(fs.find(node, name), O_WRONLY);
        REQUIRE(must(fs.service.write(fs.context, file, offset, bytes_of(text))) == text.size());
        fs.close(file);
        std::string& content = found->second->content;
        if (content.size() < offset + text.size()) content.resize(offset + text.size());
        content.replace(offset, text.size(), text);
        break;
      }
      default: {
        const auto found = at->entries.find(name);
        if (found == at->entries.end() || found->second->directory) break;
        AttributeChanges changes;
        changes.which = AttributeChanges::kSize;
        changes.size = below(20000);
        must(fs.service.setattr(fs.context, fs.find(node, name), changes));
        found->second->content.resize(changes.size);
        break;
      }
    }
  }
  check_equal(fs, fs.root(), model);
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_MODEL(Stack) \
  LIBSERVICES_CASE(conform_model, Stack, WritableService);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_MODEL_H_
