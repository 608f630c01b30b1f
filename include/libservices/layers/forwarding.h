// SPDX-License-Identifier: Apache-2.0
//
// `Forwarding<Lower, Around>`: passes every operation to the layer beneath, and so is what a layer
// is made from that changes only a few of them.
//
// Derive from it, and write the members that differ: yours hide those from here. To do the same
// thing at every operation, or to leave operations out, pass an `Around`:
//
//   struct Around {
//     static constexpr bool passes(Operation operation);  // false: the layer has not the member
//     template <class Call>
//     auto operator()(Operation operation, const Context& context, Call&& call);  // {return call();}
//   };
//
// A layer offers what the one beneath offers and `Around` passes, no more and no less: an
// operation is a member exactly when its concept holds for Lower. Without an Around of one's own
// it compiles to the calls beneath.
//
// Each operation of operations.h stands here once; tests/static compares the two lists.
//
// OWNS: the layer beneath, as a member. `Held` is how: Lower itself, or a pointer to something with
// a member `service`.
#ifndef LIBSERVICES_LAYERS_FORWARDING_H_
#define LIBSERVICES_LAYERS_FORWARDING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "libservices/capabilities.h"
#include "libservices/operations.h"

namespace libservices {

struct PassOn {
  static constexpr bool passes(Operation) { return true; }

  template <class Call>
  auto operator()(Operation, const Context&, Call&& call) {
    return call();
  }
};

template <ReadableService Lower, class Around = PassOn, class Held = Lower>
class Forwarding {
 public:
  struct Config {
    typename Lower::Config lower;
  };
  using Node = typename Lower::Node;
  using File = typename Lower::File;
  static constexpr bool kExchangesNames = exchanges_names<Lower>();

  explicit Forwarding(Config config)
    requires std::is_same_v<Held, Lower>
      : held_(std::move(config.lower)) {}

  Lower& lower() {
    if constexpr (std::is_same_v<Held, Lower>) {
      return held_;
    } else {
      return held_->service;
    }
  }
  const Lower& lower() const { return const_cast<Forwarding*>(this)->lower(); }

  absl::Status start()
    requires HasLifecycle<Lower>
  {
    return lower().start();
  }
  absl::Status stop()
    requires HasLifecycle<Lower>
  {
    return lower().stop();
  }
  Coherence coherence() const
    requires DeclaresCoherence<Lower>
  {
    return lower().coherence();
  }
  std::uint64_t losses() const
    requires CountsLosses<Lower>
  {
    return lower().losses();
  }
  Result<std::uint64_t> partial_files(const Context& context, std::stop_token stop)
    requires KeepsPartialFiles<Lower>
  {
    return lower().partial_files(context, std::move(stop));
  }
  Result<void> complete(const Context& context, std::uint64_t& completed)
    requires KeepsPartialFiles<Lower>
  {
    return lower().complete(context, completed);
  }
  std::uint64_t data_epoch() const
    requires KnowsDataEpoch<Lower>
  {
    return lower().data_epoch();
  }

  // Where on the host its files are, for branches that must not overlap.
  std::string place() const
    requires requires(const Lower& lower) { lower.place(); }
  {
    return lower().place();
  }

#define LIBSERVICES_FORWARD_(name, Concept, Answer, parameters, arguments)           \
  Answer name parameters                                                             \
    requires(Around::passes(Operation::name) && Concept<Lower>)                      \
  {                                                                                  \
    return around_(Operation::name, c, [&]() -> Answer { return lower().name arguments; }); \
  }

 private:
  using NodeEntry = Entry<Node>;
  using NewFile = Created<Node, File>;
  using C = const Context&;
  using N = const Node&;
  using Name = std::string_view;
  using Offset = std::uint64_t;
  using Into = std::span<std::byte>;
  using From = std::span<const std::byte>;

 public:
  // clang-format off
  LIBSERVICES_FORWARD_(root, CanLookup, Result<NodeEntry>, (C c), (c))
  LIBSERVICES_FORWARD_(lookup, CanLookup, Result<NodeEntry>, (C c, N directory, Name name), (c, directory, name))
  LIBSERVICES_FORWARD_(getattr, CanLookup, Result<Attributes>, (C c, N node), (c, node))
  LIBSERVICES_FORWARD_(open, CanRead, Result<Opened<File>>, (C c, N node, OpenFlags flags), (c, node, flags))
  LIBSERVICES_FORWARD_(read, CanRead, Result<std::size_t>, (C c, File& file, Offset offset, Into into), (c, file, offset, into))
  LIBSERVICES_FORWARD_(close, CanRead, Result<void>, (C c, File& file), (c, file))
  LIBSERVICES_FORWARD_(readdir, CanList, Result<void>, (C c, File& directory, Offset after, Listing wanted, EntrySink sink), (c, directory, after, wanted, sink))
  LIBSERVICES_FORWARD_(readlink, OffersReadlink, Result<std::size_t>, (C c, N node, std::span<char> into), (c, node, into))
  LIBSERVICES_FORWARD_(statfs, OffersStatfs, Result<VolumeInfo>, (C c, N node), (c, node))
  LIBSERVICES_FORWARD_(getxattr, OffersXattrs, Result<std::size_t>, (C c, N node, Name name, Into into), (c, node, name, into))
  LIBSERVICES_FORWARD_(listxattr, OffersXattrs, Result<std::size_t>, (C c, N node, std::span<char> into), (c, node, into))
  LIBSERVICES_FORWARD_(seek, OffersSeek, Result<std::uint64_t>, (C c, File& file, Offset offset, SeekTarget target), (c, file, offset, target))
  LIBSERVICES_FORWARD_(backing, OffersBacking, Result<Backing>, (C c, File& file, BackingUse use), (c, file, use))
  LIBSERVICES_FORWARD_(getflags, OffersFlags, Result<InodeFlags>, (C c, N node, InodeFlags::Form form), (c, node, form))
  LIBSERVICES_FORWARD_(lock, OffersLocks, Result<void>, (C c, File& file, std::uint64_t owner, const LockRequest& request), (c, file, owner, request))
  LIBSERVICES_FORWARD_(test_lock, OffersLocks, Result<LockRequest>, (C c, File& file, std::uint64_t owner, const LockRequest& request), (c, file, owner, request))
  LIBSERVICES_FORWARD_(create, CanWrite, Result<NewFile>, (C c, N directory, Name name, const NewNode& fresh, OpenFlags flags), (c, directory, name, fresh, flags))
  LIBSERVICES_FORWARD_(write, CanWrite, Result<std::size_t>, (C c, File& file, Offset offset, From from), (c, file, offset, from))
  LIBSERVICES_FORWARD_(fsync, CanWrite, Result<void>, (C c, File& file, SyncScope scope), (c, file, scope))
  LIBSERVICES_FORWARD_(setattr, CanChangeAttributes, Result<Attributes>, (C c, N node, const AttributeChanges& changes), (c, node, changes))
  LIBSERVICES_FORWARD_(mkdir, CanChangeTree, Result<NodeEntry>, (C c, N directory, Name name, const NewNode& fresh), (c, directory, name, fresh))
  LIBSERVICES_FORWARD_(unlink, CanChangeTree, Result<void>, (C c, N directory, Name name), (c, directory, name))
  LIBSERVICES_FORWARD_(rmdir, CanChangeTree, Result<void>, (C c, N directory, Name name), (c, directory, name))
  LIBSERVICES_FORWARD_(rename, CanChangeTree, Result<void>, (C c, N directory, Name name, N new_directory, Name new_name, RenameMode mode), (c, directory, name, new_directory, new_name, mode))
  LIBSERVICES_FORWARD_(symlink, OffersSymlink, Result<NodeEntry>, (C c, N directory, Name name, Name target, const NewNode& fresh), (c, directory, name, target, fresh))
  LIBSERVICES_FORWARD_(link, OffersLink, Result<NodeEntry>, (C c, N node, N directory, Name name), (c, node, directory, name))
  LIBSERVICES_FORWARD_(mknod, OffersMknod, Result<NodeEntry>, (C c, N directory, Name name, const NewNode& fresh), (c, directory, name, fresh))
  LIBSERVICES_FORWARD_(tmpfile, OffersTmpfile, Result<NewFile>, (C c, N directory, const NewNode& fresh, OpenFlags flags), (c, directory, fresh, flags))
  LIBSERVICES_FORWARD_(staging, OffersStaging, Result<Node>, (C c, Staging which), (c, which))
  LIBSERVICES_FORWARD_(setxattr, OffersXattrs, Result<void>, (C c, N node, Name name, From value, XattrMode mode), (c, node, name, value, mode))
  LIBSERVICES_FORWARD_(removexattr, OffersXattrs, Result<void>, (C c, N node, Name name), (c, node, name))
  LIBSERVICES_FORWARD_(append, OffersAppend, Result<std::uint64_t>, (C c, File& file, From from, std::size_t& written), (c, file, from, written))
  LIBSERVICES_FORWARD_(fallocate, OffersFallocate, Result<void>, (C c, File& file, int mode, Offset offset, std::uint64_t length), (c, file, mode, offset, length))
  LIBSERVICES_FORWARD_(copy_range, OffersCopyRange, Result<std::uint64_t>, (C c, File& from, Offset from_offset, File& to, Offset to_offset, std::uint64_t length), (c, from, from_offset, to, to_offset, length))
  LIBSERVICES_FORWARD_(clone, OffersClone, Result<void>, (C c, File& file, Backing from), (c, file, from))
  LIBSERVICES_FORWARD_(setflags, OffersFlagChanges, Result<void>, (C c, N node, const InodeFlags& flags), (c, node, flags))
  // clang-format on
#undef LIBSERVICES_FORWARD_

 protected:
  template <class... Arguments>
  explicit Forwarding(std::in_place_t, Held held, Arguments&&... around)
    requires(!std::is_same_v<Held, Lower>)
      : held_(std::move(held)), around_(std::forward<Arguments>(around)...) {}
  template <class... Arguments>
  explicit Forwarding(std::in_place_t, typename Lower::Config lower, Arguments&&... around)
    requires std::is_same_v<Held, Lower>
      : held_(std::move(lower)), around_(std::forward<Arguments>(around)...) {}

  Around& around() { return around_; }
  const Around& around() const { return around_; }

 private:
  Held held_;
  [[no_unique_address]] Around around_;
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_FORWARDING_H_
