// SPDX-License-Identifier: Apache-2.0
//
// What layers show together, written down as plainly as possible and independent of both unions
// that are tested: a copy of the merged tree.
#ifndef LIBSERVICES_TESTS_UNION_MERGE_H_
#define LIBSERVICES_TESTS_UNION_MERGE_H_

#include <string>
#include <vector>

namespace libservices::testing {

enum class Mark {
  kOpaque,             // of a directory that is there
  kWhiteout,           // a device 0:0
  kAttributeWhiteout,  // a file with an attribute, in a layer and a directory that say so
};
// Sets it in the layer at `layer`, which may be a lower one. Returns an errno where that cannot be.
int set_mark(const std::string& layer, const std::string& path, Mark mark);

bool is_whiteout(const std::string& path);

// In an upper they mean nothing; a part of a script may put them there.
void remove_attribute_whiteouts(const std::string& upper);

// Copies what `layers`, from the top, show together into the empty directory `into`. Names of a
// file that other layers hide are put into `hidden`, so that link counts are the layers'.
void merge_layers(const std::vector<std::string>& layers, const std::string& into,
                  const std::string& hidden);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_MERGE_H_
