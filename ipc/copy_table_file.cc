// SPDX-License-Identifier: Apache-2.0
#include "ipc/copy_table_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

#include "ipc/copy_kernels.h"

namespace libservices::ipc {
namespace {

using nlohmann::json;

constexpr const char* kKernelNames[] = {"libc", "rep-movsb", "sse2", "avx2", "avx512"};
static_assert(std::size(kKernelNames) == kCopyKernels);

constexpr std::size_t kMostFileBytes = 65536;  // a table has about 6000

constexpr char kElsewhere[] = "choose another place with --output";
constexpr char kRemedy[] = "run libservices tune, or remove the file";

const char* name_of(CopyKernel kernel) { return kKernelNames[static_cast<unsigned>(kernel)]; }

json to_json(CopyRecipe recipe) {
  json object{{"kernel", name_of(recipe.kernel)}};
  if (recipe.kernel >= CopyKernel::kSse2) {
    object["unroll"] = recipe.unroll;
    object["streaming"] = recipe.streaming != 0;
    object["prefetch_lines"] = recipe.prefetch_lines;
  }
  return object;
}

// Everything here that is not as it should be throws json::exception or std::out_of_range.
std::uint64_t number_in(const json& object, const char* key, std::uint64_t most) {
  const json& value = object.at(key);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) {
    throw std::out_of_range(fmt::format("'{}' is {}", key, value.dump()));
  }
  return value.get<std::uint64_t>();
}

CopyRecipe recipe_in(const json& object) {
  CopyRecipe recipe;
  const auto name = object.at("kernel").get<std::string>();
  unsigned kernel = 0;
  while (kernel < kCopyKernels && name != kKernelNames[kernel]) ++kernel;
  if (kernel == kCopyKernels) throw std::out_of_range(fmt::format("there is no kernel '{}'", name));
  recipe.kernel = static_cast<CopyKernel>(kernel);
  if (recipe.kernel >= CopyKernel::kSse2) {
    recipe.unroll = static_cast<std::uint8_t>(number_in(object, "unroll", 8));
    recipe.streaming = object.at("streaming").get<bool>() ? 1 : 0;
    recipe.prefetch_lines =
        static_cast<std::uint8_t>(number_in(object, "prefetch_lines", kMostPrefetchLines));
  }
  return recipe;
}

CopyTable table_in(const json& object) {
  CopyTable table;
  if (number_in(object, "version", UINT16_MAX) != CopyTable::kVersion) {
    throw std::out_of_range("it is of another version of libservices");
  }
  const auto cpu = object.at("cpu").get<std::string>();
  if (cpu.size() >= sizeof table.cpu) throw std::out_of_range("'cpu' is too long");
  std::memcpy(table.cpu, cpu.data(), cpu.size());
  const json& classes = object.at("classes");
  if (!classes.is_array() || classes.size() != kCopyClasses) {
    throw std::out_of_range(fmt::format("there are not {} classes", kCopyClasses));
  }
  for (unsigned i = 0; i < kCopyClasses; ++i) {
    CopyClass& way = table.classes[i];
    if (number_in(classes[i], "from_bytes", UINT32_MAX) != kSmallestTuned << i) {
      throw std::out_of_range(fmt::format("class {} is not where it should be", i));
    }
    way.whole = recipe_in(classes[i].at("whole"));
    way.in = recipe_in(classes[i].at("in"));
    way.out = recipe_in(classes[i].at("out"));
    way.chunk_bytes = static_cast<std::uint32_t>(number_in(classes[i], "chunk_bytes", kMostChunk));
  }
  table.checksum = sum_of(table);
  if (!is_sound(table)) throw std::out_of_range("a number is out of its bounds");
  return table;
}

absl::Status failure(int error, const std::string& path, std::string_view mend) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      fmt::format("copy table {}: {} ({})", path, std::strerror(error), mend));
}

bool write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// A new file in the directory of `path`, which is made. -1, and errno.
int make_beside(const std::string& path, std::string& name) {
  const std::size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash != 0 &&
      ::mkdir(path.substr(0, slash).c_str(), 0755) != 0 && errno != EEXIST) {
    return -1;
  }
  name = path + ".XXXXXX";
  return ::mkostemp(name.data(), O_CLOEXEC);
}

}  // namespace

std::string copy_table_text(const CopyTable& table) {
  json classes = json::array();
  for (unsigned i = 0; i < kCopyClasses; ++i) {
    const CopyClass& way = table.classes[i];
    classes.push_back({{"from_bytes", kSmallestTuned << i},
                       {"whole", to_json(way.whole)},
                       {"in", to_json(way.in)},
                       {"out", to_json(way.out)},
                       {"chunk_bytes", way.chunk_bytes}});
  }
  const json object{
      {"version", table.version}, {"cpu", table.cpu}, {"classes", std::move(classes)}};
  return object.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<CopyTable> parse_copy_table(std::string_view text) {
  CopyTable table;
  try {
    table = table_in(json::parse(text));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("it is no copy table: {} ({})", error.what(), kRemedy));
  }
  char here[sizeof table.cpu];
  cpu_model(here);
  if (std::strcmp(here, table.cpu) != 0) {
    return absl::FailedPreconditionError(fmt::format(
        "it is of another processor, '{}', and this one is '{}' ({})", table.cpu, here, kRemedy));
  }
  return adopt_table(table);
}

absl::StatusOr<CopyTable> load_copy_table(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return failure(errno, path, kRemedy);
  std::string text(kMostFileBytes, '\0');
  std::size_t size = 0;
  ssize_t got = 0;
  do {
    got = ::read(file, text.data() + size, text.size() - size);
    if (got > 0) size += static_cast<std::size_t>(got);
  } while (got > 0 || (got < 0 && errno == EINTR));
  const int error = errno;
  ::close(file);
  if (got < 0) return failure(error, path, kRemedy);
  absl::StatusOr<CopyTable> table = parse_copy_table(std::string_view(text).substr(0, size));
  if (table.ok()) return table;
  return absl::Status(table.status().code(), fmt::format("copy table {}: {}", path,
                                                         std::string(table.status().message())));
}

absl::Status store_copy_table(const CopyTable& table, const std::string& path) {
  std::string temporary;
  const int file = make_beside(path, temporary);
  if (file < 0) return failure(errno, path, kElsewhere);
  const bool written =
      write_all(file, copy_table_text(table)) && ::fchmod(file, 0644) == 0 && ::fsync(file) == 0;
  int error = written ? 0 : errno;
  ::close(file);
  if (error == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  ::unlink(temporary.c_str());
  return failure(error, path, kElsewhere);
}

absl::Status can_store_copy_table(const std::string& path) {
  struct stat old {};
  if (::stat(path.c_str(), &old) == 0 && S_ISDIR(old.st_mode)) {
    return failure(EISDIR, path, kElsewhere);
  }
  std::string temporary;
  const int file = make_beside(path, temporary);
  if (file < 0) return failure(errno, path, kElsewhere);
  ::close(file);
  ::unlink(temporary.c_str());
  return absl::OkStatus();
}

std::string describe(CopyRecipe recipe) {
  if (recipe.kernel < CopyKernel::kSse2) return name_of(recipe.kernel);
  return fmt::format(
      "{} x{}{}{}", name_of(recipe.kernel), recipe.unroll,
      recipe.streaming != 0 ? ", stores past the caches" : "",
      recipe.prefetch_lines != 0 ? fmt::format(", prefetch {} B", recipe.prefetch_lines * 64) : "");
}

}  // namespace libservices::ipc
