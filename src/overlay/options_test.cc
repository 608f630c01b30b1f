// SPDX-License-Identifier: Apache-2.0
#include "src/overlay/options.h"

#include <doctest/doctest.h>
#include <sys/mount.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "src/fuse/mount_options.h"

namespace libservices::overlay {
namespace {

using Words = std::vector<std::string>;

Options parsed(std::initializer_list<std::string_view> words) {
  auto options = parse_options(words);
  REQUIRE_MESSAGE(options.ok(), std::string(options.status().message()));
  return *std::move(options);
}
// Of a mount on /m.
Options with(std::string_view list) { return parsed({"-o", list, "/m"}); }

std::string refusal(std::initializer_list<std::string_view> words) {
  auto options = parse_options(words);
  REQUIRE_FALSE(options.ok());
  return std::string(options.status().message());
}
std::string refusal(std::string_view list) { return refusal({"-o", list, "/m"}); }
bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("a container's mount, with podman's empty options") {
  const Options options =
      with("lowerdir=l/AAA:l/BBB:/c,upperdir=/s/u/diff,workdir=/s/u/work,,volatile,");
  CHECK(options.action == Options::Action::kMount);
  CHECK(options.place == daemon::Place::kBackground);
  CHECK(options.lowers == Words{"l/AAA", "l/BBB", "/c"});
  CHECK(options.upper == "/s/u/diff");
  CHECK(options.work == "/s/u/work");
  CHECK(options.mountpoint == "/m");
  CHECK(options.is_volatile);
  CHECK_FALSE(options.read_only);
  CHECK(options.warnings.empty());
}

TEST_CASE("without an upper nothing can be changed") {
  const Options options = with("lowerdir=/u/diff:l/A");
  CHECK(options.read_only);
  CHECK(options.upper.empty());
  CHECK(options.lowers == Words{"/u/diff", "l/A"});
  CHECK_FALSE(options.is_volatile);
  CHECK(with("lowerdir=/a,upperdir=/u,workdir=/w,ro").read_only);
  CHECK_FALSE(with("lowerdir=/a,upperdir=/u,workdir=/w,ro,rw").read_only);
}

TEST_CASE("-o may be repeated, and glued to its list") {
  const Options options =
      parsed({"-olowerdir=/a", "-o", "upperdir=/u", "/m", "-o", "workdir=/w,volatile"});
  CHECK(options.lowers == Words{"/a"});
  CHECK(options.upper == "/u");
  CHECK(options.work == "/w");
  CHECK(options.is_volatile);
  CHECK(with("lowerdir=/a,lowerdir=/b").lowers == Words{"/b"});
  CHECK(parsed({"-o", "lowerdir=/a", "-o", "", "/m"}).lowers == Words{"/a"});
}

TEST_CASE("500 layers") {
  std::string list = "lowerdir=";
  for (int i = 0; i < 500; ++i) {
    list += "l/" + std::string(23, 'A') + std::to_string(100 + i) + (i == 499 ? "" : ":");
  }
  const Options options = with(list);
  REQUIRE(options.lowers.size() == 500);
  CHECK(options.lowers.back() == "l/" + std::string(23, 'A') + "599");
}

TEST_CASE("backslashes and quotes") {
  const Options options = with(R"(lowerdir=/a\:b:/c\,d:/e\\f:g=h,upperdir=/u\:\,x,workdir=/w "z")");
  CHECK(options.lowers == Words{"/a:b", "/c,d", "/e\\f", "g=h"});
  CHECK(options.upper == "/u:,x");
  CHECK(options.work == "/w \"z\"");
  CHECK(with("lowerdir=:/a::/b:").lowers == Words{"/a", "/b"});
  CHECK(with("lowerdir=/end\\").lowers == Words{"/end\\"});
}

TEST_CASE("owners: containers/storage begins its list with a colon") {
  const Options options = with(
      "lowerdir=/a,upperdir=/u,workdir=/w,uidmapping=:0:300000:65536,"
      "gidmapping=:0:1000:1:1:100000:65536");
  REQUIRE(options.uids.size() == 1);
  CHECK(options.uids[0].stored == 0);
  CHECK(options.uids[0].shown == 300000);
  CHECK(options.uids[0].count == 65536);
  REQUIRE(options.gids.size() == 2);
  CHECK(options.gids[1].stored == 1);
  CHECK(options.gids[1].shown == 100000);
  CHECK(with("lowerdir=/a,uidmapping=0:10:1").uids.size() == 1);
  CHECK(with("lowerdir=/a,uidmapping=").uids.empty());
  CHECK_FALSE(options.squash_uid.has_value());
  CHECK(contains(refusal("lowerdir=/a,uidmapping=0:10"), "CONTAINER-ID:HOST-ID:COUNT"));
  CHECK(contains(refusal("lowerdir=/a,gidmapping=0:x:1"), "gidmapping=x: it is no number"));
  CHECK(contains(refusal("lowerdir=/a,uidmapping=0:4294967296:1"), "it is no number"));
}

TEST_CASE("owners: all are one") {
  const Options root = with("lowerdir=/a,squash_to_root");
  CHECK(root.squash_uid == 0U);
  CHECK(root.squash_gid == 0U);
  const Options user = with("lowerdir=/a,squash_to_uid=1000,squash_to_root");
  CHECK(user.squash_uid == 1000U);
  CHECK(user.squash_gid == 0U);
  CHECK_FALSE(with("lowerdir=/a,squash_to_gid=7").squash_uid.has_value());
  CHECK(contains(refusal("lowerdir=/a,squash_to_uid=-1"), "it is no number"));
  CHECK(contains(refusal("lowerdir=/a,squash_to_uid"), "it is no number"));
}

TEST_CASE("a label has its quotes and its commas") {
  const Options options =
      with(R"(lowerdir=/a,context="system_u:object_r:container_file_t:s0:c1,c2",nodev)");
  CHECK(options.mount_options == Words{"nodev", "noatime",
                                       R"(context="system_u:object_r:container_file_t:s0:c1,c2")",
                                       "nodev"});
  CHECK(options.warnings.empty());
  CHECK(with("lowerdir=/a,context=plain").mount_options ==
        Words{"nodev", "noatime", "context=plain"});
  CHECK(contains(refusal(R"(lowerdir=/a,context="a,b)"), "its quotes have no end"));
}

TEST_CASE("flags of mount(2): the last one counts") {
  CHECK(with("lowerdir=/a").mount_options == Words{"nodev", "noatime"});
  const auto flags = [](const char* words) {
    return fuse::kernel_options(with(words).mount_options)->flags;
  };
  CHECK(flags("lowerdir=/a") == (MS_NODEV | MS_NOATIME));
  CHECK(flags("lowerdir=/a,dev,atime") == 0);
  CHECK(flags("lowerdir=/a,dev,nodev,suid,nosuid,exec,noexec,sync,strictatime") ==
        (MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_SYNCHRONOUS | MS_STRICTATIME));
  CHECK(contains(refusal("lowerdir=/a,remount"), "remount: a mount that is there"));
  CHECK_FALSE(with("lowerdir=/a").allow_other);
  CHECK(with("lowerdir=/a,allow_other").allow_other);
}

TEST_CASE("mount(8) names a source first") {
  const Options options =
      parsed({"overlay", "/m", "-o", "rw,lowerdir=/a,dev,suid,x-systemd.automount,_netdev"});
  CHECK(options.source == "overlay");
  CHECK(options.mountpoint == "/m");
  CHECK(options.warnings.empty());
  CHECK(parsed({"", "/m", "-o", "lowerdir=/a"}).source == "libservices-overlay");
  CHECK(parsed({"-o", "lowerdir=/a", "--", "-m"}).mountpoint == "-m");
  CHECK(contains(refusal({"a", "b", "c", "-o", "lowerdir=/a"}), "'c' is one word too many"));
}

TEST_CASE("what is not known is told and ignored") {
  const Options options = parsed({"--what", "-o", "lowerdir=/a,nonsense,more=1", "-q", "/m"});
  REQUIRE(options.warnings.size() == 4);
  CHECK(contains(options.warnings[0], "option --what: ignored"));
  CHECK(contains(options.warnings[1], "option nonsense: ignored"));
  CHECK(contains(options.warnings[2], "option more=1: ignored"));
  CHECK(contains(options.warnings[3], "option -q: ignored"));
}

TEST_CASE("what fuse-overlayfs has for speed is taken without a word") {
  CHECK(with("lowerdir=/a,timeout=1.5,threaded=1,writeback=0,fast_ino=1,xino=auto,xino=off,"
             "static_nlink,nfs_filehandles=1,default_permissions,private,userxattr,noxattrs=0,"
             "plugins=,lazytime,max_write=131072,fsname=x,nofail")
            .warnings.empty());
  CHECK(with("lowerdir=/a,noacl,ino32_t,noxattrs=1,plugins=x,allow_root").warnings.size() == 5);
  CHECK(with("lowerdir=/a,fsync=0").is_volatile);
  CHECK_FALSE(with("lowerdir=/a,volatile,fsync=1").is_volatile);
}

TEST_CASE("what would show other owners and modes is refused") {
  CHECK(contains(refusal("lowerdir=/a,xattr_permissions=2"), "force_mask"));
  CHECK(with("lowerdir=/a,xattr_permissions=0").warnings.empty());
}

TEST_CASE("features of overlayfs") {
  const Options usual = with("lowerdir=/a,upperdir=/u,workdir=/w");
  CHECK_FALSE(usual.redirect);
  CHECK_FALSE(usual.metacopy);
  CHECK(usual.index);
  CHECK(usual.range == "off");
  const Options other = with("lowerdir=/a,redirect_dir=on,metacopy=on,index=off,range=64K");
  CHECK(other.redirect);
  CHECK(other.metacopy);
  CHECK_FALSE(other.index);
  CHECK(other.range == "64K");
  CHECK_FALSE(with("lowerdir=/a,redirect_dir=nofollow").redirect);
  CHECK(contains(refusal("lowerdir=/a,index=x"), "neither on nor off"));
}

TEST_CASE("words") {
  CHECK(parsed({"-f", "-o", "lowerdir=/a", "/m"}).place == daemon::Place::kForeground);
  CHECK(parsed({"-d", "-o", "lowerdir=/a", "/m"}).place == daemon::Place::kForeground);
  CHECK(parsed({"-d", "-o", "lowerdir=/a", "/m"}).debug);
  CHECK(with("lowerdir=/a,debug").debug);
  for (const char* word : {"-h", "--help"}) {
    CHECK(parsed({word}).action == Options::Action::kHelp);
  }
  for (const char* word : {"-V", "--version"}) {
    CHECK(parsed({word, "/m"}).action == Options::Action::kVersion);
  }
  CHECK(version_text().starts_with("libservices-overlay: version "));
  CHECK(contains(help_text(), "lowerdir=TOP"));
}

TEST_CASE("what is missing is named") {
  CHECK(contains(refusal({}), "no mount point"));
  CHECK(contains(refusal({"/m"}), "lowerdir"));
  CHECK(contains(refusal({"/m", "-o"}), "nothing stands behind -o"));
  CHECK(contains(refusal({"-o", "lowerdir=/a"}), "no mount point"));
  CHECK(contains(refusal("lowerdir=::"), "no lower directory"));
  CHECK(contains(refusal("lowerdir=/a,upperdir=/u"), "workdir"));
}

TEST_CASE("no words bring it down") {
  // Every part of a list, cut anywhere, is either taken or refused.
  const std::string list =
      R"(lowerdir=/a\:b:"c,upperdir=/u\,,workdir=/w,uidmapping=:0:1:2,context="x,y",=,==,\)";
  for (std::size_t begin = 0; begin < list.size(); ++begin) {
    for (std::size_t size = 0; size <= list.size() - begin; ++size) {
      const std::string part = list.substr(begin, size);
      const auto options = parse_options(std::vector<std::string_view>{"-o", part, "/m"});
      if (options.ok()) CHECK_FALSE(options->lowers.empty());
    }
  }
}

}  // namespace
}  // namespace libservices::overlay
