// SPDX-License-Identifier: Apache-2.0
//
// The file that a new key is written to: for its owner alone, whole or not at all, and never over
// another one.
#ifndef LIBSERVICES_SERVICES_CEPH_KEYRING_FILE_H_
#define LIBSERVICES_SERVICES_CEPH_KEYRING_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace libservices::ceph_internal {

std::string keyring_text(std::string_view client, std::string_view key);

// ERRORS: it is there with something else than `text`, which is empty if there is no key yet; or
// no file can be made there.
absl::Status check_keyring_file(const std::string& path, std::string_view text);

// Makes it, with mode 0600, unless it is there with this very text.
absl::Status write_keyring_file(const std::string& path, std::string_view text);

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_KEYRING_FILE_H_
