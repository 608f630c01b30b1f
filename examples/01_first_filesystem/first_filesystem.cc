// SPDX-License-Identifier: Apache-2.0
//
// Lists a filesystem of one's own, reads each file, and tries to write one.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "examples/01_first_filesystem/environment.h"
#include "libservices/filesystem.h"

int main() {
  Filesystem<Environment> fs({.variables = environ});
  if (!fs.start().ok()) return 1;
  const Context me{.caller = {.uid = getuid(), .gid = getgid(), .groups = {}}};
  {
    auto directory = fs.open(me, "/", {O_RDONLY | O_DIRECTORY});
    if (!directory.ok()) return 1;
    std::vector<std::string> names;
    auto listed = fs.readdir(me, **directory, Listing::kNames, [&](const DirEntry& entry) {
      if (!entry.name.starts_with('.')) names.emplace_back(entry.name);
      return true;
    });
    if (!listed.ok()) return 1;
    for (const std::string& name : names) {
      auto file = fs.open(me, "/" + name, {O_RDONLY});
      if (!file.ok()) return 1;
      char text[256];
      auto count = fs.read(me, **file, std::as_writable_bytes(std::span(text)));
      if (!count.ok()) return 1;
      std::printf("%s: %.*s", name.c_str(), static_cast<int>(*count), text);
      if (!fs.close(me, std::move(*file)).ok()) return 1;
    }
    if (!fs.close(me, std::move(*directory)).ok()) return 1;
  }
  auto refused = fs.open(me, "/NEW", {O_WRONLY | O_CREAT}, 0644);
  std::printf("creating /NEW: %s\n", std::strerror(refused.error().value));
  return fs.stop().ok() ? 0 : 1;
}
