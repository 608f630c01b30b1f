// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of an instance, and which of its files pass through.
#include "src/fuse/nodes.h"

#include <doctest/doctest.h>

#include <optional>
#include <vector>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"

namespace libservices::fuse {
namespace {

using Way = Passthrough::Way;
using Ids = std::vector<std::uint64_t>;

struct Fixture {
  Fixture() {
    REQUIRE(filesystem.start().ok());
    auto found = filesystem.refer(Context{}, Location("/"));
    REQUIRE(found.ok());
    reference = *found;
  }
  ~Fixture() {
    reference.file.reset();
    nodes.clear();
    CHECK(filesystem.stop().ok());
  }

  FilesystemOf<Memory> filesystem{Memory::Config{}};
  Reference reference;
  Nodes nodes;
};

TEST_CASE("an object is known until each time that it was told of is forgotten") {
  Fixture fixture;
  Nodes& nodes = fixture.nodes;
  const std::uint64_t id = nodes.add(fixture.reference);
  CHECK(id == fixture.reference.object);
  CHECK(nodes.add(fixture.reference) == id);
  CHECK(nodes.size() == 1);
  nodes.forget(id, 1);
  CHECK(nodes.find(id) != nullptr);
  nodes.forget(id, 1);
  CHECK(nodes.find(id) == nullptr);
  nodes.forget(id, 1);  // once too often
  CHECK(nodes.size() == 0);
}

TEST_CASE("a renewed object has another id, and its own again when the kernel has forgotten all") {
  Fixture fixture;
  Nodes& nodes = fixture.nodes;
  const std::uint64_t object = fixture.reference.object;
  REQUIRE(nodes.add(fixture.reference) == object);
  CHECK(nodes.is_current(object));

  CHECK(nodes.renew(object));
  CHECK(!nodes.renew(object));
  CHECK(!nodes.is_current(object));
  CHECK(nodes.ids_of(object) == Ids{object});  // the new one has not been told yet
  const std::uint64_t second = nodes.add(fixture.reference);
  CHECK(second != object);
  CHECK(nodes.is_current(second));
  CHECK(nodes.ids_of(object) == Ids{object, second});
  CHECK(nodes.find(object) == nodes.find(second));

  CHECK(nodes.renew(second));
  const std::uint64_t third = nodes.add(fixture.reference);
  CHECK(nodes.ids_of(object) == Ids{object, second, third});
  nodes.forget(third, 1);
  nodes.forget(object, 1);
  CHECK(nodes.add(fixture.reference) == third);  // the second one may still be in use
  nodes.forget(second, 1);
  nodes.forget(third, 1);
  CHECK(nodes.size() == 0);
  CHECK(nodes.ids_of(object).empty());
  CHECK(nodes.add(fixture.reference) == object);
}

struct Opens {
  Passthrough::Decision open(std::optional<Passthrough::Offer> offer, Way otherwise = Way::kPages) {
    return passthrough.open(
        1, otherwise, offer, [this](int) { return ++announced, number; }, [this] { ++joined; });
  }

  Passthrough passthrough;
  std::int32_t number = 5;
  int announced = 0;
  int joined = 0;
};

constexpr Passthrough::Offer kUpper{.descriptor = 3, .device = 1, .inode = 10};
constexpr Passthrough::Offer kLower{.descriptor = 4, .device = 1, .inode = 20,
                                    .until_changed = true};

TEST_CASE("the first open decides for those that come while it is there") {
  Opens opens;
  CHECK(opens.open(kUpper).way == Way::kPassthrough);
  CHECK(opens.open(kUpper).number == 5);
  CHECK(opens.open(std::nullopt, Way::kNone).way == Way::kPassthrough);
  CHECK(opens.announced == 1);
  CHECK(opens.joined == 1);
  CHECK(opens.passthrough.passing() == 3);
  CHECK(opens.passthrough.close(1, Way::kPassthrough) == 0);
  CHECK(opens.passthrough.close(1, Way::kPassthrough) == 0);
  CHECK(opens.passthrough.close(1, Way::kPassthrough) == 5);

  CHECK(opens.open(std::nullopt).way == Way::kPages);
  CHECK(!opens.passthrough.may_pass(1));
  CHECK(opens.open(kUpper).way == Way::kPages);
  CHECK(opens.open(kUpper, Way::kNone).way == Way::kNone);
  CHECK(opens.passthrough.close(1, Way::kPages) == 0);
  CHECK(opens.passthrough.close(1, Way::kNone) == 0);
  CHECK(opens.passthrough.close(1, Way::kPages) == 0);
  opens.number = 0;  // the kernel does not want it
  CHECK(opens.open(kUpper).way == Way::kPages);
}

TEST_CASE("what passes until it is changed is joined by nobody else afterwards") {
  Opens opens;
  CHECK(opens.open(kLower).way == Way::kPassthrough);
  CHECK(opens.passthrough.passes_until_changed(1));
  CHECK(opens.open(kLower).way == Way::kPassthrough);
  CHECK(opens.open(kUpper).way == Way::kNewInode);
  CHECK(opens.open(std::nullopt).way == Way::kNewInode);
  CHECK(opens.passthrough.passing() == 2);
  CHECK(opens.passthrough.close(1, Way::kPassthrough) == 0);
  CHECK(opens.passthrough.close(1, Way::kPassthrough) == 5);
  CHECK(opens.open(kUpper).way == Way::kPassthrough);
  CHECK(!opens.passthrough.passes_until_changed(1));
}

}  // namespace
}  // namespace libservices::fuse
