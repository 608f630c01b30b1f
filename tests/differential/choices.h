// SPDX-License-Identifier: Apache-2.0
//
// The choices of a script's generator: the same for the same seed, on every machine.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_CHOICES_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_CHOICES_H_

#include <cstdint>
#include <initializer_list>
#include <random>

#include "tests/differential/operation.h"

namespace libservices::testing {

class Choices {
 public:
  explicit Choices(std::uint64_t seed) : random_(seed) {}

  // std::uniform_int_distribution gives other numbers with another library.
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[below(choices.size())];
  }

  // One of the calls, each as often as its weight says.
  struct Weight {
    Call call;
    unsigned weight;
  };
  Call pick_call(std::initializer_list<Weight> weights) {
    unsigned total = 0;
    for (const Weight& w : weights) total += w.weight;
    std::uint64_t at = below(total);
    for (const Weight& w : weights) {
      if (at < w.weight) return w.call;
      at -= w.weight;
    }
    return weights.begin()->call;
  }

  // What a call about an extended attribute is about.
  void pick_attribute(Operation& op) {
    op.other_path = pick({"user.a", "user.b"});
    op.length = below(40);
    op.flags = static_cast<int>(below(3));
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_CHOICES_H_
