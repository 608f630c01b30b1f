// SPDX-License-Identifier: Apache-2.0
//
// One call of a session, from its words to its answer. Included by dispatcher*.cc alone.
#ifndef LIBSERVICES_SRC_HOST_DISPATCHER_RUN_H_
#define LIBSERVICES_SRC_HOST_DISPATCHER_RUN_H_

#include <limits.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "src/host/dispatcher.h"

namespace libservices::host {

using protocol::Operation;

// What no filesystem library sends: counted, and reason enough to end the session. No errno of
// any filesystem; the peer is told EINVAL.
inline constexpr Errno kMalformed{4095};

// A path or name as the request's bytes were at one moment.
class PrivateText {
 public:
  static constexpr std::size_t kMost = PATH_MAX - 1;

  Result<std::string_view> copy(std::span<const std::byte> bytes) {
    if (bytes.size() > kMost) return Errno{ENAMETOOLONG};
    if (!bytes.empty()) std::memcpy(text_, bytes.data(), bytes.size());
    const std::string_view text(text_, bytes.size());
    if (text.find('\0') != std::string_view::npos) return kMalformed;
    return text;
  }

 private:
  char text_[kMost + 1];
};

// The run of one call: what its decoding and answering share.
class Dispatcher::Run {
 public:
  Run(const FilesystemTable& filesystems, Placeholders& placeholders, KeptFiles& kept_files,
      KernelObjects& objects, Watches& watches, ClientSession& session, const Call& call,
      Answer& answer)
      : filesystems_(filesystems),
        placeholders_(placeholders),
        kept_files_(kept_files),
        objects_(objects),
        watches_(watches),
        session_(session),
        call_(call),
        answer_(answer),
        context_(session.caller->context()),
        input_(call.input) {
    context_.number = call.number;
    context_.request = session.requests.fetch_add(1, std::memory_order_relaxed);
  }

  Result<void> run();
  // The path that left its instance, if that is how the run failed.
  bool left_instance();

 private:
  // An object of the request: its filesystem, its location, and what keeps both alive.
  struct Object {
    AnyFilesystem* filesystem = nullptr;
    ServiceOpenFilePtr base;
    std::string outside;
    PrivateText text;
    Location location{std::string_view{}};
  };

  template <protocol::FitsRequest T>
  T words() const {
    T words;
    std::memcpy(static_cast<void*>(&words), call_.words.data(), sizeof words);
    return words;
  }
  template <protocol::FitsAnswer T>
  Result<void> answer(const T& words) {
    std::memcpy(answer_.words.data(), &words, sizeof words);
    answer_.word_bytes = sizeof words;
    return {};
  }
  Result<void> answer_word(std::uint64_t word) { return answer(word); }

  Result<std::span<const std::byte>> take_input(std::uint64_t bytes) {
    if (bytes > input_.size()) return kMalformed;
    const auto taken = input_.first(bytes);
    input_ = input_.subspan(bytes);
    return taken;
  }
  Result<void> answer_text(std::string_view text) {
    if (text.size() > call_.output.size()) return Errno{ENAMETOOLONG};
    std::memcpy(call_.output.data(), text.data(), text.size());
    answer_.output_bytes = static_cast<std::uint32_t>(text.size());
    return {};
  }
  std::span<std::byte> output(std::uint64_t count) const {
    return call_.output.first(std::min<std::uint64_t>(count, call_.output.size()));
  }
  static std::span<char> characters(std::span<std::byte> bytes) {
    return {reinterpret_cast<char*>(bytes.data()), bytes.size()};
  }

  Result<ServiceOpenFilePtr> file(protocol::Handle handle) const {
    ServiceOpenFilePtr file = session_.handles->find(handle);
    if (file == nullptr) return Errno{EBADF};
    return file;
  }
  Result<void> locate(const protocol::Target& target, Object& object);
  Result<void> locate_two(const protocol::TwoTargetsRequest& request);
  std::uint32_t instance_of(const Object& object) const {
    return object.base != nullptr ? object.base->instance() : call_.instance;
  }
  std::string_view mount_of(const Object& object) const {
    return filesystems_[instance_of(object)].path;
  }
  Result<std::string_view> path_of(const Object& object, std::string& room) const;
  void keep(ServiceOpenFile& file, const Attributes& attributes, std::uint64_t placeholder);

  Result<void> open();
  Result<void> close();
  Result<void> rename();
  Result<void> read();
  Result<void> write();
  Result<void> seek();
  Result<void> readdir();
  Result<void> copy_range();
  Result<void> setattr();
  Result<void> make_node();
  Result<void> unlink();
  Result<void> symlink();
  Result<void> xattr();
  Result<void> lock();
  Result<void> flags();
  Result<void> inode_flags();
  Result<void> path_of();
  Result<void> map();
  Result<void> hand_over();

  const FilesystemTable& filesystems_;
  Placeholders& placeholders_;
  KeptFiles& kept_files_;
  KernelObjects& objects_;
  Watches& watches_;
  ClientSession& session_;
  const Call& call_;
  Answer& answer_;
  Context context_;
  std::span<const std::byte> input_;
  Object from_;
  Object to_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_DISPATCHER_RUN_H_
