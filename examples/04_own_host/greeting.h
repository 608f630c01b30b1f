// SPDX-License-Identifier: Apache-2.0
//
// A libservice of one's own: a directory with a greeting for every name that is looked up in it.
//
// The words come from the spec: greeting, or greeting(words="Good morning").
#ifndef LIBSERVICES_EXAMPLES_04_OWN_HOST_GREETING_H_
#define LIBSERVICES_EXAMPLES_04_OWN_HOST_GREETING_H_

#include <dirent.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "libservices/catalog.h"
#include "libservices/libservice.h"

class Greeting {
 public:
  struct Config {
    std::string words = "Hello";
  };
  using Node = std::string;  // the name that is greeted; "" is the directory
  using File = std::string;  // the text

  explicit Greeting(Config config) : config_(std::move(config)) {}

  // What a spec may say, and what it means. A libservice without options does not need it.
  static absl::StatusOr<Config> config_from(libservices::SpecArguments& arguments) {
    Config config;
    if (absl::Status taken = arguments.take("words", config.words); !taken.ok()) return taken;
    return config;
  }

  using Context = libservices::Context;
  template <class T>
  using Result = libservices::Result<T>;

  Result<libservices::Entry<Node>> root(const Context&) { return entry(""); }
  Result<libservices::Entry<Node>> lookup(const Context&, const Node& directory,
                                          std::string_view name) {
    if (!directory.empty()) return libservices::Errno{ENOTDIR};
    return entry(Node(name));
  }
  Result<libservices::Attributes> getattr(const Context&, const Node& node) {
    return entry(node).attributes;
  }
  Result<libservices::Opened<File>> open(const Context&, const Node& node,
                                         libservices::OpenFlags) {
    return libservices::Opened<File>{text(node), entry(node).attributes};
  }
  Result<std::size_t> read(const Context&, File& file, std::uint64_t offset,
                           std::span<std::byte> into) {
    if (offset >= file.size()) return std::size_t{0};
    const std::size_t count = std::min<std::size_t>(into.size(), file.size() - offset);
    std::memcpy(into.data(), file.data() + offset, count);
    return count;
  }
  Result<void> close(const Context&, File&) { return {}; }
  Result<void> readdir(const Context&, File&, std::uint64_t after, libservices::Listing,
                       libservices::EntrySink sink) {
    if (after == 0) sink({.name = "world", .inode = number("world"), .type = DT_REG, .cookie = 1});
    return {};
  }

 private:
  static std::uint64_t number(std::string_view name) {
    return name.empty() ? 1 : std::hash<std::string_view>{}(name) | 2;
  }
  std::string text(const Node& node) const { return config_.words + ", " + node + "!\n"; }
  libservices::Entry<Node> entry(Node node) const {
    libservices::Attributes attributes;
    attributes.inode = number(node);
    attributes.mode = node.empty() ? S_IFDIR | 0555 : S_IFREG | 0444;
    attributes.links = 1;
    attributes.size = node.empty() ? 0 : text(node).size();
    return {std::move(node), attributes};
  }

  const Config config_;
};
static_assert(libservices::ReadableService<Greeting>);

#endif  // LIBSERVICES_EXAMPLES_04_OWN_HOST_GREETING_H_
