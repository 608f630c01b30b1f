// SPDX-License-Identifier: Apache-2.0
#include "src/cli/fuse_words.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace libservices::cli {
namespace {

using Words = std::vector<std::string>;

FuseWords of(const Words& lists) {
  absl::StatusOr<FuseWords> words = fuse_words(lists);
  REQUIRE_MESSAGE(words.ok(), std::string(words.status().message()));
  return *std::move(words);
}

TEST_CASE("options of our own, in one list or several; the last one counts") {
  const FuseWords none = of({});
  CHECK(none.fuse.allow_other == (::geteuid() == 0));
  CHECK_FALSE(none.fuse.read_only);
  CHECK(none.fuse.passthrough);
  CHECK_FALSE(none.fuse.writeback);
  const FuseWords some = of({"ro,,allow_self", "writeback,nopassthrough,pool=p"});
  CHECK(some.fuse.read_only);
  CHECK_FALSE(some.fuse.allow_other);
  CHECK(some.fuse.writeback);
  CHECK_FALSE(some.fuse.passthrough);
  CHECK(some.pool == "p");
  CHECK(some.fuse.mount_options.empty());
  CHECK_FALSE(of({"ro,rw"}).fuse.read_only);
  CHECK(of({"allow_self,allow_other"}).fuse.allow_other);
  CHECK_FALSE(of({"writeback,nowriteback"}).fuse.writeback);
  CHECK(of({R"(fsname=a\,b)"}).fuse.source == "a,b");
  CHECK(of({"default_permissions,subtype=libservices"}).fuse.mount_options.empty());
}

TEST_CASE("those of mount(8) are passed on, a label with its commas") {
  CHECK(of({R"(nodev,context="a,b",noauto,lazytime)"}).fuse.mount_options ==
        Words{"nodev", R"(context="a,b")", "noauto", "lazytime"});
}

TEST_CASE("a word that is not known is named, or ignored if that is wanted") {
  for (const char* word : {"nonsense", "pool", "pool=", "fsname", "subtype=other", "remount"}) {
    CAPTURE(word);
    const std::string message(fuse_words(Words{"ro," + std::string(word)}).status().message());
    CHECK(message.starts_with("option " + std::string(word) + ": "));
  }
  CHECK(fuse_words(Words{"nonsense,ro"}, Unknown::kIgnore)->fuse.read_only);
  CHECK_FALSE(fuse_words(Words{"remount"}, Unknown::kIgnore).ok());
}

}  // namespace
}  // namespace libservices::cli
