// SPDX-License-Identifier: Apache-2.0
//
// A spec: the text that names a composition of libservices at run time, and its tree.
//
//   union(local:/srv/upper, local:/srv/image, name_cache=4096)
//
//   node   = NAME [":" PATH] ["(" [item ("," item)*] ")"]
//   item   = node                a layer beneath, in order from the top
//          | KEY "=" VALUE       an option
//
// NAME and KEY are letters, digits, '_', '-' and '.'. A PATH or VALUE is written as it stands; one
// that holds a comma, a parenthesis, a quote, a backslash or a space stands in "…", or has a
// backslash before each of those. Inside "…" only '"' and '\' need the backslash. Spaces between
// the parts mean nothing. The tree mirrors the type: union(local, local) is Union<Local, Local>.
//
// What a name means, and which trees there are, is the catalog's business (catalog.h).
#ifndef LIBSERVICES_SPEC_H_
#define LIBSERVICES_SPEC_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace libservices {

struct SpecOption {
  std::string key;
  std::string value;
  std::size_t position = 0;  // of the key in the spec's text, bytes
};

struct Spec {
  std::string name;
  std::optional<std::string> path;  // what stands behind ':'
  std::vector<Spec> layers;
  std::vector<SpecOption> options;

  // Where this node stands, for messages.
  std::size_t position = 0;  // bytes
  std::shared_ptr<const std::string> text;
};

// ERRORS: InvalidArgument; the message says what is wrong, where (with the line and a mark under
// the place), and what would be right.
absl::StatusOr<Spec> parse_spec(std::string_view text);

// The spec as text, with quotes where they are needed: parsing it gives the same tree.
std::string to_string(const Spec& spec);

// Names and layers alone, as the catalog knows compositions: "union(local, local)".
std::string shape_of(const Spec& spec);

// An InvalidArgument that points at `position` of `text`: "what: why (mend)", and the excerpt.
absl::Status spec_error(std::string_view text, std::size_t position, std::string_view why,
                        std::string_view mend);

}  // namespace libservices

#endif  // LIBSERVICES_SPEC_H_
