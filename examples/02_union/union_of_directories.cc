// SPDX-License-Identifier: Apache-2.0
//
// A union of two directories without any service: what is changed goes to the upper one, and the
// lower one stays as it was.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "libservices/filesystem.h"
#include "services/local/local.h"
#include "services/union/union.h"

using namespace libservices;

namespace {

using Root = Filesystem<Union<Local, Local>>;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

Result<void> append(Root& fs, const Context& me, const char* path, std::string_view text) {
  LIBSERVICES_TRY(auto file, fs.open(me, path, {O_WRONLY | O_APPEND | O_CREAT}, 0644));
  LIBSERVICES_TRY(const std::size_t count, fs.write(me, *file, bytes(text)));
  if (count != text.size()) return Errno{EIO};
  return fs.close(me, std::move(file));
}

Result<void> show(Root& fs, const Context& me) {
  LIBSERVICES_TRY(auto directory, fs.open(me, "/", {O_RDONLY | O_DIRECTORY}));
  std::set<std::string> names;
  LIBSERVICES_CHECK_OK(fs.readdir(me, *directory, Listing::kNames, [&](const DirEntry& entry) {
    if (!entry.name.starts_with('.')) names.emplace(entry.name);
    return true;
  }));
  for (const std::string& name : names) {
    LIBSERVICES_TRY(auto file, fs.open(me, "/" + name, {O_RDONLY}));
    char text[256];
    LIBSERVICES_TRY(const std::size_t count,
                    fs.read(me, *file, std::as_writable_bytes(std::span(text))));
    std::printf("  %s: %.*s\n", name.c_str(), static_cast<int>(count), text);
    LIBSERVICES_CHECK_OK(fs.close(me, std::move(file)));
  }
  return fs.close(me, std::move(directory));
}

Result<void> change(Root& fs, const Context& me) {
  LIBSERVICES_CHECK_OK(append(fs, me, "/bread", ", sliced"));  // copied up, then changed
  LIBSERVICES_CHECK_OK(fs.unlink(me, "/milk"));                // hidden by a whiteout
  return append(fs, me, "/tea", "green");                      // new
}

}  // namespace

int main() {
  std::string place = std::filesystem::temp_directory_path() / "union-XXXXXX";
  if (mkdtemp(place.data()) == nullptr) return 1;
  std::filesystem::create_directory(place + "/upper");
  std::filesystem::create_directory(place + "/lower");
  std::ofstream(place + "/lower/bread") << "rye";
  std::ofstream(place + "/lower/milk") << "oat";
  int status = 1;
  {
    Root fs({.upper = {.directory = place + "/upper", .work = place + "/work"},
             .lowers = {{.directory = place + "/lower", .work = {}}},
             .durable = true});
    const Context me{.caller = {.uid = getuid(), .gid = getgid(), .groups = {}}};
    if (absl::Status started = fs.start(); !started.ok()) {
      std::fprintf(stderr, "%s\n", started.ToString().c_str());
    } else {
      std::puts("before:");
      bool ok = show(fs, me).ok() && change(fs, me).ok();
      std::puts("after:");
      ok = ok && show(fs, me).ok();
      std::string bread, milk;
      std::getline(std::ifstream(place + "/lower/bread"), bread);
      std::getline(std::ifstream(place + "/lower/milk"), milk);
      std::printf("in the lower still: bread: %s, milk: %s\n", bread.c_str(), milk.c_str());
      status = ok && fs.stop().ok() ? 0 : 1;
    }
  }
  std::filesystem::remove_all(place);
  return status;
}
