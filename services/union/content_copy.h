// SPDX-License-Identifier: Apache-2.0
//
// The content of a lower file comes into the upper whole: its storage is shared where both branches
// can, else its bytes are copied. Holes stay holes.
#ifndef LIBSERVICES_SERVICES_UNION_CONTENT_COPY_H_
#define LIBSERVICES_SERVICES_UNION_CONTENT_COPY_H_

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/branches.h"
#include "services/union/lower_content.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class ContentCopy {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using File = typename Upper::File;

  // From this size on storage is shared, and holes are looked for.
  static constexpr std::uint64_t kSmallestShared = 65536;

  explicit ContentCopy(B& branches) : branches_(branches), lower_content_(branches.lowers()) {}

  // Whether `file` has the record's content now, without a byte copied.
  bool share(const Context& context, const R& record, File& file) {
    if constexpr (OffersBacking<Lower> && OffersClone<Upper>) {
      if (record.lowers.size() != 1 || record.lowers.front().ranges) return false;
      const auto& source = record.lowers.front();
      Lower& lower = branches_.lower(source.branch);
      auto opened = lower.open(context, source.node, OpenFlags{O_RDONLY});
      if (!opened.ok()) return false;
      auto backing = lower.backing(context, opened->file, BackingUse::kWhileOpen);
      const bool shared = backing.ok() && branches_.upper().clone(context, file, *backing).ok();
      (void)lower.close(context, opened->file);
      return shared;
    }
    return false;
  }

  // `end`: of `target` as it is then.
  Result<void> copy(const Context& context, const R& record, const Attributes& old, File& target,
                    std::uint64_t& end) {
    LowerFiles<Lower> files;
    auto copied = copy_from(context, record, files, old, target, end);
    auto closed = lower_content_.close(context, record.lowers, files);
    return copied.ok() ? closed : copied;
  }

 private:
  Result<void> copy_from(const Context& context, const R& record, LowerFiles<Lower>& files,
                         const Attributes& old, File& target, std::uint64_t& reached) {
    std::vector<std::byte> buffer(
        std::min<std::uint64_t>(std::max<std::uint64_t>(old.size, 1), 1U << 20U));
    // That a small file has no holes its blocks say, at less cost.
    const bool seeks = old.size > kSmallestShared || old.blocks * 512 < old.size;
    std::uint64_t offset = 0;
    while (offset < old.size) {
      std::uint64_t end = old.size;
      if (seeks) {
        auto data =
            lower_content_.seek(context, record.lowers, files, old.size, offset, SeekTarget::kData);
        if (!data.ok() && data.error() == Errno{ENXIO}) break;  // a hole up to the end
        if (!data.ok()) return data.error();
        offset = *data;
        LIBSERVICES_TRY(end, lower_content_.seek(context, record.lowers, files, old.size, offset,
                                                 SeekTarget::kHole));
      }
      while (offset < end) {
        const auto part = std::min<std::uint64_t>(buffer.size(), end - offset);
        const auto bytes = std::span(buffer).first(part);
        LIBSERVICES_TRY(const std::size_t count, lower_content_.read(context, record.lowers, files,
                                                                     old.size, offset, bytes));
        LIBSERVICES_TRY(const std::size_t written,
                        branches_.upper().write(context, target, offset, bytes.first(count)));
        if (written < count) return Errno{ENOSPC};
        reached = offset += count;
      }
    }
    return {};
  }

  B& branches_;
  LowerContent<Lower> lower_content_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_CONTENT_COPY_H_
