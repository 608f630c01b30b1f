// SPDX-License-Identifier: Apache-2.0
#include "libservices/spec.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

namespace libservices {
namespace {

std::string message(std::string_view text) {
  absl::StatusOr<Spec> spec = parse_spec(text);
  REQUIRE_FALSE(spec.ok());
  return std::string(spec.status().message());
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("a name alone is a spec") {
  const auto spec = parse_spec("memory");
  REQUIRE(spec.ok());
  CHECK(spec->name == "memory");
  CHECK_FALSE(spec->path.has_value());
  CHECK(spec->layers.empty());
}

TEST_CASE("layers, paths and options stand in their places") {
  const auto spec = parse_spec(
      " union( local:/upper (exclusive=true), subtree(local:/l1, path=/a/b) , local:/l2,"
      "volatile = true ) ");
  REQUIRE(spec.ok());
  CHECK(shape_of(*spec) == "union(local, subtree(local), local)");
  CHECK(spec->layers[0].path == "/upper");
  CHECK(spec->layers[0].options[0].key == "exclusive");
  CHECK(spec->layers[1].options[0].value == "/a/b");
  CHECK(spec->options[0].key == "volatile");
  CHECK(spec->options[0].value == "true");
  CHECK(parse_spec("memory()").ok());
}

TEST_CASE("quotes and backslashes keep what has a meaning") {
  const auto spec = parse_spec(R"(union(local:"/a, (b)=c", local:/with\ space\,\\, k="q\"x"))");
  REQUIRE(spec.ok());
  CHECK(spec->layers[0].path == "/a, (b)=c");
  CHECK(spec->layers[1].path == "/with space,\\");
  CHECK(spec->options[0].value == "q\"x");
  CHECK(parse_spec("local:/a=b:c")->path == "/a=b:c");
  CHECK(parse_spec("local(path=\"\")")->options[0].value.empty());
}

TEST_CASE("what is written is read back as the same tree") {
  for (const char* text : {"memory", "union(local:/a, local:\"/b c\", volatile=true)",
                           R"(local:"/a\"b\\c"(x="", y=1))"}) {
    const auto spec = parse_spec(text);
    REQUIRE(spec.ok());
    CHECK(to_string(*spec) == text);
    CHECK(to_string(*parse_spec(to_string(*spec))) == text);
  }
}

TEST_CASE("an error says what, where and what would be right") {
  CHECK(contains(message("union(local:/a, local:)"), "column 22: no path stands behind 'local:'"));
  CHECK(contains(message("union(local:/a, local:)"), "(write local:/DIRECTORY)"));
  CHECK(message("union(local:/a, local:)")
            .ends_with("\n  union(local:/a, local:)\n                       ^"));
  CHECK(contains(message("union(local:/a"), "column 6: this '(' of 'union' is not closed"));
  CHECK(contains(message("local:/a)"), "this ')' closes nothing"));
  CHECK(contains(message("local:/a b"), "stands behind the end"));
  CHECK(contains(message("union(local:/a local:/b)"), "',' or ')' should stand here"));
  CHECK(contains(message("union(a=1,a=2)"), "'a' is given twice"));
  CHECK(contains(message(""), "it ends where the name of a libservice should stand"));
  CHECK(contains(message("/tmp/x"), "(write local:/DIRECTORY)"));
  CHECK(contains(message("union(,)"), "',' stands where a layer or an option should"));
  CHECK(contains(message("local:\"/a"), "this quote is not closed"));
  CHECK(contains(message("local:/a\\"), "a backslash ends the text"));
  CHECK(contains(message(std::string("a\0b", 3)), "NUL"));
  CHECK(contains(message(std::string(2 << 20, 'a')), "more than"));
}

TEST_CASE("layers inside each other have a limit") {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "a(";
  CHECK(contains(message(deep), "more than 32 layers"));
}

TEST_CASE("any text is a spec that is read back, or an error with a message") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  constexpr std::string_view kBytes = "ab:/,()=\"\\ .1\n";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (unsigned i = random() % 24; i > 0; --i) text += kBytes[random() % kBytes.size()];
    CAPTURE(text);
    const auto spec = parse_spec(text);
    if (spec.ok()) {
      const auto again = parse_spec(to_string(*spec));
      REQUIRE(again.ok());
      CHECK(to_string(*again) == to_string(*spec));
    } else {
      CHECK_FALSE(spec.status().message().empty());
    }
  }
}

}  // namespace
}  // namespace libservices
