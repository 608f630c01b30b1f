// SPDX-License-Identifier: Apache-2.0
//
// Conformance of symbolic and hard links, special files, nameless files and staging.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_LINKS_H_
#define LIBSERVICES_TESTING_CONFORMANCE_LINKS_H_

#include "libservices/testing/instance.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("a symbolic link keeps its target as it was written", Stack,
                          conform_symlink) {
  Instance<Stack> fs;
  const auto read = [&](const auto& node) {
    std::string target(4096, '\0');
    target.resize(must(fs.service.readlink(fs.context, node, target)));
    return target;
  };
  const NewNode fresh{.mode = 0777};
  for (std::string target : {std::string("../a//b/."), std::string("x"), std::string(4095, 't')}) {
    const std::string name = "link" + std::to_string(target.size());
    const auto made = must(fs.service.symlink(fs.context, fs.root(), name, target, fresh));
    CHECK(made.attributes.is_symlink());
    CHECK(made.attributes.size == target.size());
    CHECK((read(made.node) == target));
    CHECK((read(fs.find(name)) == target));
  }
  CHECK(error_of(fs.service.symlink(fs.context, fs.root(), "file", "x", fresh)) == EEXIST);
  must(fs.service.unlink(fs.context, fs.root(), "link1"));
  CHECK(fs.lookup_error(fs.root(), "link1") == ENOENT);
}

TEST_CASE_TEMPLATE_DEFINE("readlink cuts at the buffer's end, and refuses other objects", Stack,
                          conform_readlink) {
  Instance<Stack> fs;
  const auto link =
      must(fs.service.symlink(fs.context, fs.root(), "link", "target", {.mode = 0777})).node;
  std::string into(3, '\0');
  CHECK(must(fs.service.readlink(fs.context, link, into)) == 3);
  CHECK(into == "tar");
  CHECK(error_of(fs.service.readlink(fs.context, fs.find("file"), into)) == EINVAL);
}

TEST_CASE_TEMPLATE_DEFINE("a hard link is one more name of the same object", Stack,
                          conform_link) {
  Instance<Stack> fs;
  const auto file = fs.find("file");
  const auto made = must(fs.service.link(fs.context, file, fs.find("directory"), "second"));
  CHECK(made.attributes.links == 2);
  CHECK(made.attributes.inode == fs.attributes(file).inode);
  if constexpr (WritableService<typename Stack::Service>) {
    must(fs.service.unlink(fs.context, fs.root(), "file"));
    CHECK(fs.attributes(made.node).links == 1);
    CHECK(fs.content(fs.find(fs.find("directory"), "second")) == kSeedText);
  }
}

TEST_CASE_TEMPLATE_DEFINE("link refuses a name that is taken, and directories", Stack,
                          conform_link_errors) {
  Instance<Stack> fs;
  const auto file = fs.find("file");
  CHECK(error_of(fs.service.link(fs.context, file, fs.root(), "empty")) == EEXIST);
  CHECK(error_of(fs.service.link(fs.context, fs.find("empty"), fs.root(), "new")) == EPERM);
  CHECK(error_of(fs.service.link(fs.context, file, file, "new")) == ENOTDIR);
}

TEST_CASE_TEMPLATE_DEFINE("a name that is replaced takes no other name of the object along", Stack,
                          conform_link_replaced) {
  Instance<Stack> fs;
  const auto directory = fs.find("directory");
  const auto made = fs.make(fs.root(), "one", "text");
  must(fs.service.link(fs.context, made, fs.root(), "two"));
  must(fs.service.link(fs.context, made, directory, "three"));
  must(fs.service.rename(fs.context, fs.root(), "file", fs.root(), "two", RenameMode::kReplace));
  // Once more, with what listings have told.
  for (int time = 0; time < 2; ++time) {
    CHECK(fs.names(fs.root()).count("one") == 1);
    CHECK(fs.names(directory).count("three") == 1);
    CHECK(fs.content(fs.find("one")) == "text");
    CHECK(fs.content(fs.find(directory, "three")) == "text");
    CHECK(fs.content(fs.find("two")) == kSeedText);
    CHECK(fs.attributes(fs.find("one")).links == 2);
  }
}

TEST_CASE_TEMPLATE_DEFINE("mknod makes each type but directories", Stack,
                          conform_mknod) {
  Instance<Stack> fs;
  for (std::uint32_t type : {S_IFIFO, S_IFSOCK, S_IFREG}) {
    const std::string name = "node" + std::to_string(type);
    const auto made = must(fs.service.mknod(fs.context, fs.root(), name, {.mode = type | 0640U}));
    CHECK(made.attributes.mode == (type | 0640U));
    CHECK(fs.attributes(fs.find(name)).mode == (type | 0640U));
    must(fs.service.unlink(fs.context, fs.root(), name));
  }
  CHECK(error_of(fs.service.mknod(fs.context, fs.root(), "file", {.mode = S_IFIFO})) == EEXIST);
}

TEST_CASE_TEMPLATE_DEFINE("a nameless file works as any other, and can be given a name", Stack,
                          conform_tmpfile) {
  Instance<Stack> fs;
  const auto before = fs.names(fs.root());
  auto made = must(fs.service.tmpfile(fs.context, fs.root(), kPlain, {O_RDWR}));
  CHECK(made.attributes.links == 0);
  must(fs.service.write(fs.context, made.file, 0, bytes_of("text")));
  CHECK(fs.read_from(made.file, 0, 10) == "text");
  CHECK(fs.names(fs.root()) == before);
  if constexpr (OffersLink<typename Stack::Service>) {
    const auto named = must(fs.service.link(fs.context, made.node, fs.root(), "named"));
    CHECK(named.attributes.links == 1);
    CHECK(fs.content(fs.find("named")) == "text");
  }
  fs.close(made.file);
}

TEST_CASE_TEMPLATE_DEFINE("what is made in staging is not seen until it is renamed into the tree",
                          Stack, conform_staging) {
  Instance<Stack> fs;
  const auto staging = must(fs.service.staging(fs.context, Staging::kDrafts));
  CHECK(fs.names(staging).empty());
  const auto before = fs.names(fs.root());
  fs.make(staging, "draft", "text");
  CHECK(fs.names(fs.root()) == before);
  must(fs.service.rename(fs.context, staging, "draft", fs.root(), "file", RenameMode::kReplace));
  CHECK(fs.content(fs.find("file")) == "text");
  must(fs.service.rename(fs.context, fs.root(), "empty", staging, "gone", RenameMode::kReplace));
  CHECK(fs.lookup_error(fs.root(), "empty") == ENOENT);
  must(fs.service.rmdir(fs.context, staging, "gone"));
  const auto kept = must(fs.service.staging(fs.context, Staging::kKept));
  fs.make(kept, "later", "text");
  CHECK(fs.names(staging).empty());
  must(fs.service.rename(fs.context, kept, "later", fs.root(), "later", RenameMode::kReplace));
  CHECK(fs.content(fs.find("later")) == "text");
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_LINKS(Stack)                  \
  LIBSERVICES_CASE(conform_symlink, Stack, OffersSymlink);    \
  LIBSERVICES_CASE(conform_readlink, Stack, OffersSymlink);   \
  LIBSERVICES_CASE(conform_link, Stack, OffersLink);          \
  LIBSERVICES_CASE(conform_link_errors, Stack, OffersLink);   \
  LIBSERVICES_CASE(conform_link_replaced, Stack, OffersLink); \
  LIBSERVICES_CASE(conform_mknod, Stack, OffersMknod);        \
  LIBSERVICES_CASE(conform_tmpfile, Stack, OffersTmpfile);    \
  LIBSERVICES_CASE(conform_staging, Stack, OffersStaging);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_LINKS_H_
