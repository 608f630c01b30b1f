// SPDX-License-Identifier: Apache-2.0
#include "libservices/spec.h"

#include <fmt/format.h>

#include <utility>

namespace libservices {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;  // of which 500 branches with long paths take 60 K
constexpr int kDeepest = 32;                 // nodes inside nodes
constexpr std::size_t kExcerpt = 64;         // bytes of the text shown on one line with the mark

bool is_name_byte(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '.';
}

bool is_space(char byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }

class Parser {
 public:
  explicit Parser(std::string_view text)
      : text_(std::make_shared<const std::string>(text)), rest_(*text_) {}

  absl::StatusOr<Spec> parse() {
    if (text_->size() > kMostBytes) {
      return absl::InvalidArgumentError(fmt::format(
          "spec: it has {} bytes, more than {} (shorten it)", text_.get()->size(), kMostBytes));
    }
    if (const auto nul = rest_.find('\0'); nul != std::string_view::npos) {
      return error(nul, "a NUL byte stands in it", "remove it");
    }
    skip_spaces();
    absl::StatusOr<Spec> spec = node(0);
    if (!spec.ok()) return spec;
    skip_spaces();
    if (at_ < rest_.size()) {
      if (rest_[at_] == ')') {
        return error(at_, "this ')' closes nothing", "remove it, or open '(' before it");
      }
      return error(at_, fmt::format("'{}' stands behind the end of the spec", rest_[at_]),
                   "write one composition; a path with spaces goes in \"…\"");
    }
    return spec;
  }

 private:
  absl::Status error(std::size_t position, std::string_view why, std::string_view mend) const {
    return spec_error(*text_, position, why, mend);
  }

  bool at(char byte) const { return at_ < rest_.size() && rest_[at_] == byte; }

  void skip_spaces() {
    while (at_ < rest_.size() && is_space(rest_[at_])) ++at_;
  }

  absl::StatusOr<std::string> name(std::string_view what) {
    const std::size_t start = at_;
    while (at_ < rest_.size() && is_name_byte(rest_[at_])) ++at_;
    if (at_ > start) return std::string(rest_.substr(start, at_ - start));
    if (at_ == rest_.size()) {
      return error(at_, fmt::format("it ends where {} should stand", what),
                   "write for example local:/DIRECTORY");
    }
    return error(at_, fmt::format("'{}' stands where {} should", rest_[at_], what),
                 rest_[at_] == '/' ? "write local:/DIRECTORY"
                                   : "names have letters, digits, '_', '-' and '.'");
  }

  // A path or a value: quoted, or as it stands up to a byte that has a meaning here.
  absl::StatusOr<std::string> word() {
    std::string word;
    while (at_ < rest_.size()) {
      const char byte = rest_[at_];
      if (byte == '"') {
        if (absl::Status quoted = quoted_part(word); !quoted.ok()) return quoted;
      } else if (byte == '\\') {
        if (at_ + 1 == rest_.size()) {
          return error(at_, "a backslash ends the text", "write \\\\ for a backslash");
        }
        word += rest_[at_ + 1];
        at_ += 2;
      } else if (byte == ',' || byte == '(' || byte == ')' || is_space(byte)) {
        break;
      } else {
        word += byte;
        ++at_;
      }
    }
    return word;
  }

  absl::Status quoted_part(std::string& word) {
    const std::size_t start = at_++;
    while (at_ < rest_.size() && rest_[at_] != '"') {
      if (rest_[at_] == '\\' && at_ + 1 < rest_.size()) ++at_;
      word += rest_[at_++];
    }
    if (at_ == rest_.size()) return error(start, "this quote is not closed", "add a \"");
    ++at_;
    return absl::OkStatus();
  }

  absl::StatusOr<Spec> node(int depth) {
    Spec spec;
    spec.position = at_;
    spec.text = text_;
    absl::StatusOr<std::string> read = name("the name of a libservice");
    if (!read.ok()) return read.status();
    spec.name = *std::move(read);
    return behind_name(std::move(spec), depth);
  }

  absl::StatusOr<Spec> behind_name(Spec spec, int depth) {
    if (depth == kDeepest) {
      return error(spec.position, fmt::format("more than {} layers inside each other", kDeepest),
                   "use fewer");
    }
    if (at(':')) {
      const std::size_t colon = at_++;
      absl::StatusOr<std::string> path = word();
      if (!path.ok()) return path.status();
      if (path->empty()) {
        return error(colon, fmt::format("no path stands behind '{}:'", spec.name),
                     fmt::format("write {}:/DIRECTORY", spec.name));
      }
      spec.path = *std::move(path);
    }
    const std::size_t behind = at_;
    skip_spaces();
    if (!at('(')) {
      at_ = behind;
      return spec;
    }
    if (absl::Status items = this->items(spec, depth); !items.ok()) return items;
    return spec;
  }

  absl::Status items(Spec& spec, int depth) {
    const std::size_t open = at_++;
    skip_spaces();
    if (at(')')) {
      ++at_;
      return absl::OkStatus();
    }
    for (;;) {
      skip_spaces();
      if (absl::Status status = item(spec, depth); !status.ok()) return status;
      skip_spaces();
      if (at(',')) {
        ++at_;
      } else if (at(')')) {
        ++at_;
        return absl::OkStatus();
      } else if (at_ == rest_.size()) {
        return error(open, fmt::format("this '(' of '{}' is not closed", spec.name), "add a ')'");
      } else {
        return error(at_, "',' or ')' should stand here",
                     "separate layers and options by commas; a path with spaces goes in \"…\"");
      }
    }
  }

  absl::Status item(Spec& spec, int depth) {
    const std::size_t start = at_;
    absl::StatusOr<std::string> read = name("a layer or an option");
    if (!read.ok()) return read.status();
    const std::size_t behind = at_;
    skip_spaces();
    if (!at('=')) {
      at_ = behind;
      Spec layer;
      layer.position = start;
      layer.text = text_;
      layer.name = *std::move(read);
      absl::StatusOr<Spec> whole = behind_name(std::move(layer), depth + 1);
      if (!whole.ok()) return whole.status();
      spec.layers.push_back(*std::move(whole));
      return absl::OkStatus();
    }
    ++at_;
    skip_spaces();
    absl::StatusOr<std::string> value = word();
    if (!value.ok()) return value.status();
    for (const SpecOption& other : spec.options) {
      if (other.key == *read) {
        return error(start, fmt::format("the option '{}' is given twice", *read), "remove one");
      }
    }
    spec.options.push_back({*std::move(read), *std::move(value), start});
    return absl::OkStatus();
  }

  std::shared_ptr<const std::string> text_;
  std::string_view rest_;
  std::size_t at_ = 0;
};

std::string quoted(std::string_view word) {
  if (word.find_first_of(",()\"\\ \t\n\r") == std::string_view::npos && !word.empty()) {
    return std::string(word);
  }
  std::string out = "\"";
  for (const char byte : word) {
    if (byte == '"' || byte == '\\') out += '\\';
    out += byte;
  }
  return out + '"';
}

}  // namespace

absl::StatusOr<Spec> parse_spec(std::string_view text) { return Parser(text).parse(); }

std::string to_string(const Spec& spec) {
  std::string out = spec.name;
  if (spec.path) out += ':' + quoted(*spec.path);
  std::string items;
  for (const Spec& layer : spec.layers) {
    items += (items.empty() ? "" : ", ") + to_string(layer);
  }
  for (const SpecOption& option : spec.options) {
    items += (items.empty() ? "" : ", ") + option.key + '=' + quoted(option.value);
  }
  return items.empty() ? out : out + '(' + items + ')';
}

std::string shape_of(const Spec& spec) {
  std::string layers;
  for (const Spec& layer : spec.layers) {
    layers += (layers.empty() ? "" : ", ") + shape_of(layer);
  }
  return layers.empty() ? spec.name : spec.name + '(' + layers + ')';
}

absl::Status spec_error(std::string_view text, std::size_t position, std::string_view why,
                        std::string_view mend) {
  const std::size_t from = position > kExcerpt / 2 ? position - kExcerpt / 2 : 0;
  std::string excerpt(text.substr(from, kExcerpt));
  for (char& byte : excerpt) {
    if (static_cast<unsigned char>(byte) < ' ' || byte == '\x7f') byte = ' ';
  }
  return absl::InvalidArgumentError(fmt::format("spec, column {}: {} ({})\n  {}\n  {}^",
                                                position + 1, why, mend, excerpt,
                                                std::string(position - from, ' ')));
}

}  // namespace libservices
