// SPDX-License-Identifier: Apache-2.0
//
// `ReadOnly<Lower>`: the layer beneath without any operation that changes it.
//
// It is no WritableService, whatever Lower is, so `Filesystem` answers changes with EROFS before
// any call. An open for writing, or with O_TRUNC, fails with EROFS here too. Extended attributes can
// be read; because their operations are one group, the two that change them are there as well, and
// answer EROFS.
#ifndef LIBSERVICES_LAYERS_READ_ONLY_H_
#define LIBSERVICES_LAYERS_READ_ONLY_H_

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "libservices/layers/forwarding.h"

namespace libservices {

struct PassReads : PassOn {
  static constexpr bool passes(Operation operation) {
#define LIBSERVICES_IS_(name) operation == Operation::name ||
    return LIBSERVICES_READ_OPERATIONS(LIBSERVICES_IS_) false;
#undef LIBSERVICES_IS_
  }
};

template <ReadableService Lower>
class ReadOnly : public Forwarding<Lower, PassReads> {
  using Base = Forwarding<Lower, PassReads>;

 public:
  using typename Base::Config;
  using typename Base::File;
  using typename Base::Node;

  explicit ReadOnly(Config config) : Base(std::move(config)) {}

  Result<Opened<File>> open(const Context& context, const Node& node, OpenFlags flags) {
    if (flags.writes() || flags.truncates()) return Errno{EROFS};
    return Base::open(context, node, flags);
  }
  Result<void> setxattr(const Context&, const Node&, std::string_view, std::span<const std::byte>,
                        XattrMode)
    requires OffersXattrs<Lower>
  {
    return Errno{EROFS};
  }
  Result<void> removexattr(const Context&, const Node&, std::string_view)
    requires OffersXattrs<Lower>
  {
    return Errno{EROFS};
  }
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_READ_ONLY_H_
