// SPDX-License-Identifier: Apache-2.0
//
// The environment as a directory: each variable is a file, and its content the value.
#ifndef LIBSERVICES_EXAMPLES_FIRST_FILESYSTEM_ENVIRONMENT_H_
#define LIBSERVICES_EXAMPLES_FIRST_FILESYSTEM_ENVIRONMENT_H_

#include <dirent.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "libservices/libservice.h"

using namespace libservices;

class Environment {
 public:
  struct Config {
    char** variables;  // as `environ`
  };
  using Node = std::size_t;  // 0 is the root, n the n-th variable
  using File = std::size_t;

  explicit Environment(Config config) {
    for (char** at = config.variables; *at != nullptr; ++at) {
      const std::string text = *at;
      const std::size_t equals = text.find('=');
      variables_.emplace_back(text.substr(0, equals), text.substr(equals + 1) + "\n");
    }
  }

  Result<Entry<Node>> root(const Context&) { return Entry<Node>{0, attributes(0)}; }
  Result<Entry<Node>> lookup(const Context&, const Node& directory, std::string_view name) {
    if (directory != 0) return Errno{ENOTDIR};
    if (name.size() > 255) return Errno{ENAMETOOLONG};
    for (Node node = 1; node <= variables_.size(); ++node) {
      if (variables_[node - 1].first == name) return Entry<Node>{node, attributes(node)};
    }
    return Errno{ENOENT};
  }
  Result<Attributes> getattr(const Context&, const Node& node) { return attributes(node); }
  Result<Opened<File>> open(const Context&, const Node& node, OpenFlags) {
    return Opened<File>{node, attributes(node)};
  }
  Result<std::size_t> read(const Context&, File& file, std::uint64_t offset,
                           std::span<std::byte> into) {
    if (file == 0) return Errno{EISDIR};
    const std::string& value = variables_[file - 1].second;
    if (offset >= value.size()) return std::size_t{0};
    const std::size_t count = std::min<std::size_t>(into.size(), value.size() - offset);
    std::memcpy(into.data(), value.data() + offset, count);
    return count;
  }
  Result<void> close(const Context&, File&) { return {}; }
  Result<void> readdir(const Context&, File& directory, std::uint64_t after, Listing,
                       EntrySink sink) {
    if (directory != 0) return Errno{ENOTDIR};
    for (Node node = after + 1; node <= variables_.size(); ++node) {
      if (!sink({variables_[node - 1].first, node + 1, DT_REG, node})) break;
    }
    return {};
  }

 private:
  Attributes attributes(Node node) const {
    Attributes a;
    a.inode = node + 1;
    a.mode = node == 0 ? S_IFDIR | 0555U : S_IFREG | 0444U;
    a.links = node == 0 ? 2 : 1;
    a.size = node == 0 ? 0 : variables_[node - 1].second.size();
    return a;
  }

  std::vector<std::pair<std::string, std::string>> variables_;
};

static_assert(ReadableService<Environment>);

#endif  // LIBSERVICES_EXAMPLES_FIRST_FILESYSTEM_ENVIRONMENT_H_
