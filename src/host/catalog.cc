// SPDX-License-Identifier: Apache-2.0
#include "libservices/catalog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>

namespace libservices {
namespace {

constexpr std::string_view kRepeat = "...";

// A pattern as a spec: "x(y)..." becomes "x...(y)", so that "..." is a part of the name.
std::string as_spec(std::string_view pattern) {
  std::string text(pattern);
  for (std::size_t close; (close = text.find(")...")) != std::string::npos;) {
    text.erase(close + 1, kRepeat.size());
    std::size_t open = close;
    for (int depth = 1; depth != 0;) {
      --open;
      depth += text[open] == ')' ? 1 : text[open] == '(' ? -1 : 0;
    }
    text.insert(open, kRepeat);
  }
  return text;
}

bool repeats(const Spec& pattern) {
  return pattern.name.size() > kRepeat.size() && pattern.name.ends_with(kRepeat);
}

std::string_view name_of(const Spec& pattern) {
  std::string_view name = pattern.name;
  if (repeats(pattern)) name.remove_suffix(kRepeat.size());
  return name;
}

bool matches(const Spec& pattern, const Spec& spec) {
  if (name_of(pattern) != spec.name) return false;
  const std::size_t fixed = pattern.layers.size();
  const bool more = fixed > 0 && repeats(pattern.layers.back());
  if (more ? spec.layers.size() < fixed : spec.layers.size() != fixed) return false;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (!matches(pattern.layers[std::min(i, fixed - 1)], spec.layers[i])) return false;
  }
  return true;
}

std::string list(std::span<const std::string> words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

struct Unit {
  std::string_view suffix;
  std::uint64_t factor;
};

constexpr Unit kSizes[] = {{"K", 1ULL << 10}, {"M", 1ULL << 20}, {"G", 1ULL << 30}, {"", 1}};
constexpr Unit kDurations[] = {{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}};

bool parse_flag(std::string_view text, bool& into) {
  const bool yes = text == "on" || text == "true";
  if (!yes && text != "off" && text != "false") return false;
  into = yes;
  return true;
}

// A whole number and one of `units`; false when it is none or too large.
bool parse_number(std::string_view text, std::span<const Unit> units, std::uint64_t& into) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  for (const Unit& unit : units) {
    if (text != unit.suffix) continue;
    return !__builtin_mul_overflow(number, unit.factor, &into);
  }
  return false;
}

}  // namespace

const SpecOption* SpecArguments::given(std::string_view key) const {
  const auto found = std::ranges::find(spec_->options, key, &SpecOption::key);
  return found == spec_->options.end() ? nullptr : &*found;
}

const SpecOption* SpecArguments::find(std::string_view key) {
  known_.emplace_back(key);
  const SpecOption* option = given(key);
  if (option != nullptr) taken_[static_cast<std::size_t>(option - spec_->options.data())] = true;
  return option;
}

absl::StatusOr<std::string> SpecArguments::path() {
  path_taken_ = true;
  if (!spec_->path) {
    return error(fmt::format("'{}' needs a directory", spec_->name),
                 fmt::format("write {}:/DIRECTORY", spec_->name));
  }
  if (!spec_->path->starts_with('/')) {
    return error(fmt::format("'{}' is not an absolute path", *spec_->path),
                 "write it from '/': the service has another working directory");
  }
  return *spec_->path;
}

absl::Status SpecArguments::take(std::string_view key, std::string& into) {
  if (const SpecOption* option = find(key)) into = option->value;
  return absl::OkStatus();
}

absl::Status SpecArguments::take(std::string_view key, bool& into) {
  const SpecOption* option = find(key);
  if (option == nullptr || parse_flag(option->value, into)) return absl::OkStatus();
  return value_error(key, "write true or false");
}

absl::Status SpecArguments::take_switch(std::string_view key, bool& into) {
  const SpecOption* option = find(key);
  if (option == nullptr || parse_flag(option->value, into)) return absl::OkStatus();
  return value_error(key, "write on or off");
}

absl::Status SpecArguments::take(std::string_view key, std::uint64_t& into) {
  const SpecOption* option = find(key);
  if (option == nullptr || parse_number(option->value, kSizes, into)) return absl::OkStatus();
  return value_error(key, "write a whole number, with K, M or G if you like");
}

absl::Status SpecArguments::take(std::string_view key, std::uint32_t& into) {
  std::uint64_t wide = into;
  if (absl::Status status = take(key, wide); !status.ok()) return status;
  if (wide > std::numeric_limits<std::uint32_t>::max()) {
    return value_error(key, "write one below 4G");
  }
  into = static_cast<std::uint32_t>(wide);
  return absl::OkStatus();
}

absl::Status SpecArguments::take_size(std::string_view key, std::optional<std::uint64_t>& into) {
  const SpecOption* option = find(key);
  if (option == nullptr) return absl::OkStatus();
  std::uint64_t bytes = 0;
  if (option->value == "off") {
    into.reset();
  } else if (parse_number(option->value, kSizes, bytes) && bytes != 0) {
    into = bytes;
  } else {
    return value_error(key, "write off, or a number of bytes as 64K, 1M or 1G");
  }
  return absl::OkStatus();
}

absl::Status SpecArguments::take(std::string_view key, double& into) {
  const SpecOption* option = find(key);
  if (option == nullptr) return absl::OkStatus();
  const std::string& text = option->value;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(number)) {
    return value_error(key, "write a number, for example 0.01");
  }
  into = number;
  return absl::OkStatus();
}

absl::Status SpecArguments::take(std::string_view key, std::chrono::nanoseconds& into) {
  const SpecOption* option = find(key);
  if (option == nullptr) return absl::OkStatus();
  std::uint64_t count = 0;
  if (!parse_number(option->value, kDurations, count) ||
      count > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return value_error(key, "write a whole number and its unit: ns, us, ms or s");
  }
  into = std::chrono::nanoseconds(static_cast<std::int64_t>(count));
  return absl::OkStatus();
}

absl::Status SpecArguments::error(std::string_view why, std::string_view mend) const {
  return spec_error(spec_->text ? *spec_->text : spec_->name, spec_->position, why, mend);
}

absl::Status SpecArguments::value_error(std::string_view key, std::string_view mend) const {
  const SpecOption* option = given(key);
  assert(option != nullptr);
  return spec_error(*spec_->text, option->position,
                    fmt::format("'{}' is no value for '{}'", option->value, key), mend);
}

absl::Status SpecArguments::finish(bool uses_layers) const {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i]) continue;
    const SpecOption& option = spec_->options[i];
    return spec_error(*spec_->text, option.position,
                      fmt::format("'{}' has no option '{}'", spec_->name, option.key),
                      known_.empty() ? "it has none" : "it has: " + list(known_));
  }
  if (spec_->path && !path_taken_) {
    return error(fmt::format("'{}' takes no path", spec_->name),
                 fmt::format("remove ':{}'", *spec_->path));
  }
  if (!spec_->layers.empty() && !uses_layers) {
    return error(fmt::format("'{}' has no layers beneath it", spec_->name), "remove them");
  }
  return absl::OkStatus();
}

absl::StatusOr<FilesystemOptions> take_filesystem_options(SpecArguments& arguments) {
  FilesystemOptions options;
  std::uint64_t cached_names = options.cached_names;
  if (absl::Status taken = arguments.take("cached_names", cached_names); !taken.ok()) return taken;
  options.cached_names = cached_names;
  if (absl::Status taken = arguments.take("deadline", options.deadline); !taken.ok()) return taken;
  constexpr std::chrono::milliseconds kShortest(10);
  if (arguments.has("deadline") && options.deadline < kShortest) {
    return arguments.value_error(
        "deadline", "write 10ms or more, as 30s; without a deadline callers wait for ever");
  }
  return options;
}

void Catalog::add(std::string_view pattern, Factory factory) {
  absl::StatusOr<Spec> tree = parse_spec(as_spec(pattern));
  assert(tree.ok() && "a pattern is a spec of names");
  compositions_.push_back({std::string(pattern), *std::move(tree), std::move(factory)});
}

absl::StatusOr<std::unique_ptr<AnyFilesystem>> Catalog::build(const Spec& spec) const {
  for (const Composition& composition : compositions_) {
    if (matches(composition.tree, spec)) return composition.make(spec);
  }
  return absl::InvalidArgumentError(
      fmt::format("spec '{}': no such composition is compiled in (there are: {})", shape_of(spec),
                  list(patterns())));
}

absl::StatusOr<std::unique_ptr<AnyFilesystem>> Catalog::build(std::string_view text) const {
  absl::StatusOr<Spec> spec = parse_spec(text);
  if (!spec.ok()) return spec.status();
  return build(*spec);
}

std::vector<std::string> Catalog::patterns() const {
  std::vector<std::string> patterns;
  for (const Composition& composition : compositions_) patterns.push_back(composition.pattern);
  return patterns;
}

}  // namespace libservices
