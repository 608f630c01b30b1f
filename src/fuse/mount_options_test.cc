// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/mount_options.h"

#include <doctest/doctest.h>
#include <sys/mount.h>

#include <string>
#include <vector>

namespace libservices::fuse {
namespace {

using Words = std::vector<std::string>;

KernelOptions of(const Words& words) {
  absl::StatusOr<KernelOptions> options = kernel_options(words);
  REQUIRE_MESSAGE(options.ok(), std::string(options.status().message()));
  return *std::move(options);
}
std::string refusal(const std::string& word) {
  return std::string(kernel_options(Words{"nodev", word}).status().message());
}

TEST_CASE("options stand between commas, but for those that are protected") {
  const auto split = [](std::string_view text) {
    const auto parts = split_options(text);
    return Words(parts.begin(), parts.end());
  };
  CHECK(split("") == Words{""});
  CHECK(split("ro,,nodev") == Words{"ro", "", "nodev"});
  CHECK(split(R"(context="a:b,c\",d",ro)") == Words{R"(context="a:b,c\",d")", "ro"});
  CHECK(split(R"(a\,b,c)") == Words{R"(a\,b)", "c"});
  CHECK(split(R"(a"b,c)") == Words{R"(a"b)", "c"});
  CHECK(without_backslashes(R"(a\,b\\c\)") == R"(a,b\c\)");
}

TEST_CASE("each word that mount(8) has a flag for") {
  const std::pair<const char*, unsigned long> flags[] = {
      {"ro", MS_RDONLY},         {"nodev", MS_NODEV},
      {"nosuid", MS_NOSUID},     {"noexec", MS_NOEXEC},
      {"noatime", MS_NOATIME},   {"nodiratime", MS_NODIRATIME},
      {"relatime", MS_RELATIME}, {"strictatime", MS_STRICTATIME},
      {"lazytime", MS_LAZYTIME}, {"sync", MS_SYNCHRONOUS},
      {"dirsync", MS_DIRSYNC},   {"nosymfollow", MS_NOSYMFOLLOW},
      {"silent", MS_SILENT},     {"iversion", MS_I_VERSION},
  };
  for (const auto& flag : flags) {
    CAPTURE(flag.first);
    CHECK(of({flag.first}).flags == flag.second);
    CHECK(kind_of(flag.first) == OptionKind::kFlag);
  }
  for (const char* word :
       {"rw", "dev", "suid", "exec", "atime", "diratime", "norelatime", "nostrictatime",
        "nolazytime", "async", "symfollow", "loud", "noiversion", "mand", "nomand", "defaults"}) {
    CAPTURE(word);
    CHECK(of({word}).flags == 0);
    CHECK(kind_of(word) == OptionKind::kFlag);
  }
}

TEST_CASE("the last of words that contradict each other counts") {
  CHECK(of({"ro", "nodev", "rw"}).flags == MS_NODEV);
  CHECK(of({"noatime", "relatime"}).flags == MS_RELATIME);
  CHECK(of({"strictatime", "noatime"}).flags == MS_NOATIME);
  CHECK(of({"noatime", "atime"}).flags == 0);
  CHECK(of({"relatime", "atime"}).flags == MS_RELATIME);
  CHECK(of({"sync", "dirsync", "async"}).flags == MS_DIRSYNC);
}

TEST_CASE("words of mount(8) and of systemd are for those, labels for the kernel") {
  CHECK(of({"noauto", "user", "user=me", "_netdev", "nofail", "x-systemd.automount", "X-own=1",
            "x-systemd.requires=a.service", "comment=any", "owner", "group", "shared", "rslave", "",
            "uhelper=hal"})
            .flags == 0);
  CHECK(of({R"(context="a,b")", "noauto", "rootcontext=c"}).words ==
        Words{R"(context="a,b")", "rootcontext=c"});
}

TEST_CASE("a word that is not known is named, and so is one that cannot be obeyed") {
  for (const char* word : {"nonsense", "ro=1", "context", "uid=0", "fd=3", "allow_other", "loop"}) {
    CAPTURE(word);
    CHECK(refusal(word).starts_with("option " + std::string(word) + ": it is not known ("));
  }
  for (const char* word : {"remount", "bind", "rbind", "move"}) {
    CAPTURE(word);
    CHECK(refusal(word).find("cannot be changed") != std::string::npos);
  }
}

TEST_CASE("fusermount3 is told what it knows") {
  const auto told = [](const Words& words) { return *helper_options(of(words)); };
  CHECK(told({"ro", "noexec", "noatime", "sync", "dirsync"}) ==
        Words{"ro", "noexec", "noatime", "sync", "dirsync"});
  CHECK(told({"nodev", "nosuid", "dev", "suid", "relatime", "lazytime", "nodiratime"}).empty());
  CHECK(told({"context=a"}) == Words{"context=a"});
  CHECK(absl::IsFailedPrecondition(helper_options(of({"nosymfollow"})).status()));
}

}  // namespace
}  // namespace libservices::fuse
