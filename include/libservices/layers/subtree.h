// SPDX-License-Identifier: Apache-2.0
//
// `Subtree<Lower>`: a directory of the layer beneath as the root of a filesystem of its own.
//
// start() finds the directory, and from then on it is that object, even if it is renamed. Nothing
// above can leave it, because a libservice knows neither paths nor "..". Hard links made below are
// still links: an object that also has a name elsewhere is the same object there.
#ifndef LIBSERVICES_LAYERS_SUBTREE_H_
#define LIBSERVICES_LAYERS_SUBTREE_H_

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "libservices/layers/forwarding.h"

namespace libservices {

template <ReadableService Lower>
class Subtree : public Forwarding<Lower> {
  using Base = Forwarding<Lower>;

 public:
  using typename Base::Node;

  struct Config {
    typename Lower::Config lower;
    std::string path;  // names from the root beneath, with '/' between; no symbolic link, "." or ".."
  };

  explicit Subtree(Config config)
      : Base({std::move(config.lower)}), path_(std::move(config.path)) {}

  // ERRORS: InvalidArgument for "..", NotFound and the like with the name that is wrong.
  absl::Status start() {
    if (absl::Status started = start_service(this->lower()); !started.ok()) return started;
    absl::Status found = find();
    if (!found.ok()) (void)stop_service(this->lower());
    return found;
  }
  absl::Status stop() {
    root_.reset();
    return stop_service(this->lower());
  }

  std::string place() const
    requires requires(const Lower& lower) { lower.place(); }
  {
    return Base::place() + below_;
  }

  Result<Entry<Node>> root(const Context& context) {
    LIBSERVICES_TRY(const Attributes attributes, this->lower().getattr(context, *root_));
    return Entry<Node>{*root_, attributes};
  }

 private:
  absl::Status find() {
    const Context context;
    below_.clear();
    auto at = this->lower().root(context);
    for (std::string_view rest = path_; at.ok() && !rest.empty();) {
      const std::string_view name = rest.substr(0, rest.find('/'));
      rest.remove_prefix(std::min(rest.size(), name.size() + 1));
      if (name.empty()) continue;
      if (name == "." || name == "..") {
        return absl::InvalidArgumentError(
            fmt::format("subtree: '{}' has the component '{}' (write it without)", path_, name));
      }
      at = this->lower().lookup(context, at->node, name);
      if (!at.ok()) return error(at.error(), name);
      if (!at->attributes.is_directory()) return error(Errno{ENOTDIR}, name);
      below_.append("/").append(name);
    }
    if (!at.ok()) return error(at.error(), "/");
    root_.emplace(at->node);
    return absl::OkStatus();
  }

  absl::Status error(Errno why, std::string_view name) const {
    return absl::ErrnoToStatus(why.value,
                               fmt::format("subtree: cannot use '{}' of '{}'", name, path_));
  }

  const std::string path_;
  std::string below_;         // the same as `path_`, written in one way; from start() on
  std::optional<Node> root_;  // set by start(), constant until stop()
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_SUBTREE_H_
