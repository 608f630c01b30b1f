// SPDX-License-Identifier: Apache-2.0
//
// Where the entries that a listing has handed out lie in its parts, so that it can go back to any
// of them. Cookies count the entries. The place of each of the last 65,536 is kept; further back
// the listing goes on from the nearest of the places kept for good, one in 1,024, and counts.
//
// THREADS: one at a time.
#ifndef LIBSERVICES_SERVICES_UNION_LISTING_PLACES_H_
#define LIBSERVICES_SERVICES_UNION_LISTING_PLACES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace libservices::union_internal {

class ListingPlaces {
 public:
  struct Place {
    std::uint32_t part = 0;
    std::uint64_t cookie = 0;  // the branch's, in that part
  };

  // How many entries, and so the last cookie.
  std::uint64_t handed_out() const { return handed_out_; }

  // The next entry was handed out.
  void add(const Place& here) {
    const std::uint64_t index = handed_out_++ % kExact;
    if (index >= recent_.size()) recent_.resize(index + 1);
    recent_[index] = here;
    if (handed_out_ % kEvery == 0 && handed_out_ / kEvery == marked_.size()) {
      marked_.push_back(here);
    }
  }

  struct Return {
    Place from;
    std::uint64_t skip = 0;  // entries from there on
  };
  // The next entry is the one behind cookie `after`, once the listing has gone that way and added
  // the entries that it skips again.
  Return go_back(std::uint64_t after) {
    if (after < handed_out_ && after > exact_from_ && handed_out_ - after < kExact) {
      handed_out_ = after;
      return {recent_[(after - 1) % kExact], 0};
    }
    const std::uint64_t mark = std::min<std::uint64_t>(after / kEvery, marked_.size() - 1);
    handed_out_ = exact_from_ = mark * kEvery;
    return {marked_[mark], after - mark * kEvery};
  }

 private:
  static constexpr std::uint64_t kExact = 65536;
  static constexpr std::uint64_t kEvery = 1024;

  std::uint64_t handed_out_ = 0;
  std::uint64_t exact_from_ = 0;           // `recent_` is right for the cookies behind this one
  std::vector<Place> recent_;              // by cookie - 1 modulo kExact
  std::vector<Place> marked_ = {Place{}};  // of every kEvery-th cookie; the first is the start
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_LISTING_PLACES_H_
