// SPDX-License-Identifier: Apache-2.0
#include "libservices/catalog.h"

#include <doctest/doctest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace libservices {
namespace {

// What the factories of these tests were given.
struct Built {
  std::string pattern;
  std::string spec;
};

// A catalog of patterns whose factories build nothing and say what they got.
class CatalogTest {
 protected:
  void add(const std::string& pattern) {
    catalog_.add(pattern, [this, pattern](const Spec& spec) {
      built_ = {pattern, to_string(spec)};
      return absl::StatusOr<std::unique_ptr<AnyFilesystem>>(nullptr);
    });
  }
  std::string message(std::string_view spec) const {
    const auto built = catalog_.build(spec);
    return built.ok() ? "" : std::string(built.status().message());
  }

  Catalog catalog_;
  Built built_;
};

TEST_CASE_FIXTURE(CatalogTest, "a spec finds the composition of its shape") {
  for (const char* pattern :
       {"memory", "local", "union(local, local...)", "union(memory, local...)",
        "readonly(union(local, local...))", "union(local, a(b(local, local))...)"}) {
    add(pattern);
  }
  const auto found = [&](std::string_view spec) {
    built_ = {};
    CHECK(message(spec).empty());
    return built_.pattern;
  };
  CHECK(found("memory") == "memory");
  CHECK(found("local:/a(x=1)") == "local");
  CHECK(found("union(local:/a, local:/b)") == "union(local, local...)");
  CHECK(found("union(memory, local:/a, local:/b, local:/c)") == "union(memory, local...)");
  CHECK(found("union(local:/a, a(b(local:/b, local:/c)), a(b(local:/d, local:/e), x=y))") ==
        "union(local, a(b(local, local))...)");
  CHECK(found("readonly(union(local:/a, local:/b, x=y))") == "readonly(union(local, local...))");
}

TEST_CASE_FIXTURE(CatalogTest, "an unknown composition is told with those that there are") {
  add("memory");
  add("union(local, local...)");
  for (const char* spec : {"union(local:/a)", "union(memory, memory)", "unions(local:/a, local:/b)",
                           "memory(memory)", "union(local, memory)"}) {
    CAPTURE(spec);
    CHECK(message(spec).find("no such composition is compiled in (there are: memory, "
                             "union(local, local...))") != std::string::npos);
  }
  CHECK(message("union(local:/a, local:/b, local").find("is not closed") != std::string::npos);
  CHECK(catalog_.patterns() == std::vector<std::string>{"memory", "union(local, local...)"});
}

TEST_CASE("values are read as what they are for") {
  const auto good = parse_spec(
      "x(text=words, yes=true, size=64K, small=7, part=0.25, wait=50ms, long=2s, no=false)");
  REQUIRE(good.ok());
  SpecArguments arguments(*good);
  std::string text = "unset";
  std::string absent = "unset";
  bool yes = false;
  bool no = true;
  std::uint64_t size = 0;
  std::uint32_t small = 0;
  double part = 0;
  std::chrono::nanoseconds wait{0};
  std::chrono::nanoseconds longer{0};
  CHECK(arguments.take("text", text).ok());
  CHECK(arguments.take("absent", absent).ok());
  CHECK(arguments.take("yes", yes).ok());
  CHECK(arguments.take("no", no).ok());
  CHECK(arguments.take("size", size).ok());
  CHECK(arguments.take("small", small).ok());
  CHECK(arguments.take("part", part).ok());
  CHECK(arguments.take("wait", wait).ok());
  CHECK(arguments.take("long", longer).ok());
  CHECK(arguments.finish(false).ok());
  CHECK(text == "words");
  CHECK(absent == "unset");
  CHECK(yes);
  CHECK_FALSE(no);
  CHECK(size == 65536);
  CHECK(small == 7);
  CHECK(part == 0.25);
  CHECK(wait == std::chrono::milliseconds(50));
  CHECK(longer == std::chrono::seconds(2));
}

TEST_CASE("a value that is none is an error that points at it") {
  const auto spec = parse_spec(
      "x(a=maybe, b=12Q, c=99999999999999999999, d=5000000000, e=1.5.2, "
      "f=5, g=nan)");
  REQUIRE(spec.ok());
  SpecArguments arguments(*spec);
  bool flag = false;
  std::uint64_t number = 0;
  std::uint32_t small = 0;
  double part = 0;
  std::chrono::nanoseconds wait{0};
  CHECK(std::string(arguments.take("a", flag).message())
            .starts_with("spec, column 3: 'maybe' is no value for 'a' (write true or false)"));
  CHECK_FALSE(arguments.take("b", number).ok());
  CHECK_FALSE(arguments.take("c", number).ok());
  CHECK_FALSE(arguments.take("d", small).ok());
  CHECK_FALSE(arguments.take("e", part).ok());
  CHECK_FALSE(arguments.take("f", wait).ok());
  CHECK_FALSE(arguments.take("g", part).ok());
}

TEST_CASE("switches, sizes and choices are read, and else left as they are") {
  enum class Marks { kOverlay, kAufs };
  const auto good =
      parse_spec("x(index=on, xino=off, old=true, range=64K, whole=off, tiny=1, marks=aufs)");
  REQUIRE(good.ok());
  SpecArguments arguments(*good);
  bool index = false;
  bool xino = true;
  bool old = false;
  bool absent = true;
  std::optional<std::uint64_t> range;
  std::optional<std::uint64_t> whole = 5;
  std::optional<std::uint64_t> tiny;
  std::optional<std::uint64_t> unset = 6;
  Marks marks = Marks::kOverlay;
  const auto take_marks = [&](SpecArguments& from) {
    return from.take_choice("marks", {{"overlay", Marks::kOverlay}, {"aufs", Marks::kAufs}}, marks);
  };
  CHECK(arguments.take_switch("index", index).ok());
  CHECK(arguments.take_switch("xino", xino).ok());
  CHECK(arguments.take_switch("old", old).ok());
  CHECK(arguments.take_switch("absent", absent).ok());
  CHECK(arguments.take_size("range", range).ok());
  CHECK(arguments.take_size("whole", whole).ok());
  CHECK(arguments.take_size("tiny", tiny).ok());
  CHECK(arguments.take_size("unset", unset).ok());
  CHECK(take_marks(arguments).ok());
  CHECK(arguments.finish(false).ok());
  CHECK(index);
  CHECK_FALSE(xino);
  CHECK(old);
  CHECK(absent);
  CHECK(range == 65536U);
  CHECK_FALSE(whole.has_value());
  CHECK(tiny == 1U);
  CHECK(unset == 6U);
  CHECK(marks == Marks::kAufs);
  CHECK(arguments.has("index"));
  CHECK_FALSE(arguments.has("absent"));

  const auto wrong = parse_spec("x(index=maybe, range=0, all=on, huge=17179869184G, marks=dots)");
  REQUIRE(wrong.ok());
  SpecArguments refused(*wrong);
  CHECK(std::string(refused.take_switch("index", index).message())
            .starts_with("spec, column 3: 'maybe' is no value for 'index' (write on or off)\n"));
  CHECK(std::string(refused.take_size("range", range).message())
            .starts_with("spec, column 16: '0' is no value for 'range' (write off, or a number of "
                         "bytes as 64K, 1M or 1G)\n"));
  CHECK_FALSE(refused.take_size("all", range).ok());
  CHECK_FALSE(refused.take_size("huge", range).ok());
  CHECK(std::string(take_marks(refused).message())
            .starts_with("spec, column 52: 'dots' is no value for 'marks' (write overlay or "
                         "aufs)\n"));
  CHECK(index);
  CHECK(range == 65536U);
  CHECK(marks == Marks::kAufs);
}

TEST_CASE("what nobody took is an error that names what there is") {
  const auto spec = parse_spec("local:/a(mode=x, speed=9)");
  REQUIRE(spec.ok());
  SpecArguments arguments(*spec);
  std::string mode;
  CHECK(arguments.take("mode", mode).ok());
  CHECK(arguments.path().value() == "/a");
  CHECK(std::string(arguments.finish(false).message())
            .starts_with("spec, column 18: 'local' has no option 'speed' (it has: mode)\n"));

  const auto path = parse_spec("memory:/a");
  CHECK(std::string(SpecArguments(*path).finish(false).message())
            .starts_with("spec, column 1: 'memory' takes no path (remove ':/a')"));
  const auto layers = parse_spec("memory(local:/a)");
  CHECK_FALSE(SpecArguments(*layers).finish(false).ok());
  CHECK(SpecArguments(*layers).finish(true).ok());
  const auto relative = parse_spec("local:a");
  CHECK_FALSE(SpecArguments(*relative).path().ok());
  const auto none = parse_spec("local");
  CHECK_FALSE(SpecArguments(*none).path().ok());
}

}  // namespace
}  // namespace libservices
