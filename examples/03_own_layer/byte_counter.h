// SPDX-License-Identifier: Apache-2.0
//
// `ByteCounter<Lower>`: counts the bytes that are read from the layer beneath and written to it.
//
// All other operations, and every ability of the layer beneath, come from Forwarding.
#ifndef LIBSERVICES_EXAMPLES_OWN_LAYER_BYTE_COUNTER_H_
#define LIBSERVICES_EXAMPLES_OWN_LAYER_BYTE_COUNTER_H_

#include <atomic>
#include <utility>

#include "libservices/layers/forwarding.h"

namespace example {

using namespace libservices;

template <ReadableService Lower>
class ByteCounter : public Forwarding<Lower> {
  using Base = Forwarding<Lower>;

 public:
  using typename Base::Config;
  using typename Base::File;

  explicit ByteCounter(Config config) : Base(std::move(config)) {}

  Result<std::size_t> read(const Context& context, File& file, std::uint64_t offset,
                           std::span<std::byte> into) {
    LIBSERVICES_TRY(const std::size_t count, Base::read(context, file, offset, into));
    read_.fetch_add(count, std::memory_order_relaxed);
    return count;
  }

  // Offered where the layer beneath offers it: the one `requires` says so.
  Result<std::size_t> write(const Context& context, File& file, std::uint64_t offset,
                            std::span<const std::byte> from)
    requires CanWrite<Lower>
  {
    LIBSERVICES_TRY(const std::size_t count, Base::write(context, file, offset, from));
    written_.fetch_add(count, std::memory_order_relaxed);
    return count;
  }

  Result<std::uint64_t> append(const Context& context, File& file, std::span<const std::byte> from,
                               std::size_t& written)
    requires OffersAppend<Lower>
  {
    LIBSERVICES_TRY(const std::uint64_t end, Base::append(context, file, from, written));
    written_.fetch_add(written, std::memory_order_relaxed);
    return end;
  }

  std::uint64_t bytes_read() const { return read_.load(std::memory_order_relaxed); }
  std::uint64_t bytes_written() const { return written_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> read_{0};
  std::atomic<std::uint64_t> written_{0};
};

}  // namespace example

#endif  // LIBSERVICES_EXAMPLES_OWN_LAYER_BYTE_COUNTER_H_
