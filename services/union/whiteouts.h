// SPDX-License-Identifier: Apache-2.0
//
// Whiteouts and opaque directories, as a union writes them into its upper branch (marks.h says what
// they mean): as overlayfs has them, or as files.
//
// A mark that is a file may stand beside an object of its name: the object counts, and the mark
// hides what is below.
#ifndef LIBSERVICES_SERVICES_UNION_WHITEOUTS_H_
#define LIBSERVICES_SERVICES_UNION_WHITEOUTS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "services/union/drafts.h"
#include "services/union/marks.h"
#include "services/union/upper_marks.h"

namespace libservices::union_internal {

enum class WhiteoutForm : std::uint8_t {
  kOverlay,  // character devices, and attributes
  kFiles,    // `.wh.NAME` and `.wh..wh..opq`, as AUFS and OCI layers have them
};

template <class Upper>
class Whiteouts {
 public:
  using UpperNode = typename Upper::Node;

  Whiteouts(Upper& upper, UpperMarks<Upper>& marks, Drafts<Upper>& drafts, WhiteoutForm form)
      : upper_(upper), marks_(marks), drafts_(drafts), form_(form) {}

  bool are_files() const { return form_ == WhiteoutForm::kFiles; }

  // The directory hides all that is below it.
  Result<void> set_opaque(const Context& context, const UpperNode& directory) {
    if (are_files()) return make_file(context, directory, std::string(kOpaqueFiles[0]));
    return marks_.set_yes(context, directory, kOpaque);
  }

  // A device where nothing is.
  Result<void> make(const Context& context, const UpperNode& directory, std::string_view name) {
    const NewNode device{.mode = S_IFCHR, .uid = 0, .gid = 0, .special_device = 0};
    auto made = upper_.mknod(context, directory, name, device);
    if (!made.ok()) return made.error();
    return {};
  }
  // A device in the place of what stands there, in one step.
  Result<void> put_over(const Context& context, const UpperNode& node, std::string_view name,
                        bool is_directory) {
    LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
    const std::string temporary = drafts_.next_name();
    LIBSERVICES_CHECK_OK(make(context, staging, temporary));
    auto placed = upper_.rename(context, staging, temporary, node, name,
                                is_directory ? RenameMode::kExchange : RenameMode::kReplace);
    if (!placed.ok()) {
      drafts_.discard(context, staging, temporary, false);
    } else if (is_directory) {
      drafts_.clear(context, staging, temporary);
    }
    return placed;
  }

  // A file that hides `name`.
  Result<void> make_file_for(const Context& context, const UpperNode& directory,
                             std::string_view name) {
    return make_file(context, directory, std::string(kWhiteoutFile).append(name));
  }

 private:
  // It may be there already.
  Result<void> make_file(const Context& context, const UpperNode& directory,
                         const std::string& mark) {
    const NewNode file{.mode = S_IFREG | 0600, .uid = 0, .gid = 0, .special_device = 0};
    auto made = upper_.mknod(context, directory, mark, file);
    if (!made.ok() && made.error() != Errno{EEXIST}) return made.error();
    return {};
  }

  Upper& upper_;
  UpperMarks<Upper>& marks_;
  Drafts<Upper>& drafts_;
  const WhiteoutForm form_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_WHITEOUTS_H_
