// SPDX-License-Identifier: Apache-2.0
//
// An open file or directory of `Ceph`.
#ifndef LIBSERVICES_SERVICES_CEPH_OPEN_FILE_H_
#define LIBSERVICES_SERVICES_CEPH_OPEN_FILE_H_

#include <dirent.h>

#include <cstdint>
#include <mutex>
#include <utility>

#include "libservices/dir_entry.h"
#include "libservices/open_flags.h"
#include "services/ceph/client.h"

namespace libservices::ceph_internal {

struct OpenFile {
  OpenFile(ObjectPtr object, OpenFlags opened) : node(std::move(object)), flags(opened) {}
  ~OpenFile() {
    if (node->client().gone()) return;
    if (handle != nullptr) (void)ceph_ll_close(node->client().mount(), handle);
    if (directory != nullptr) (void)ceph_ll_releasedir(node->client().mount(), directory);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const ObjectPtr node;
  const OpenFlags flags;
  Fh* handle = nullptr;  // of a regular file

  std::mutex listing;                    // guards what follows
  ceph_dir_result* directory = nullptr;  // opened by the first listing
  std::uint64_t listed = 0;              // the cookie behind which `directory` goes on
  // The entry behind `listed` that was read and not taken, if there is one.
  bool has_refused = false;
  Listing refused_for{};
  dirent refused{};
  Statx refused_statx{};
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_OPEN_FILE_H_
