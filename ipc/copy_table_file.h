// SPDX-License-Identifier: Apache-2.0
//
// The copy table as a file: JSON, so that a person can read it.
//
// A file is of one processor and of one version of the table. It is replaced whole, by rename, so a
// reader sees the old one or the new one. What is read is checked field by field.
#ifndef LIBSERVICES_IPC_COPY_TABLE_FILE_H_
#define LIBSERVICES_IPC_COPY_TABLE_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/copy_table.h"

namespace libservices::ipc {

inline constexpr char kCopyTableFile[] = "/var/lib/libservices/copy-table";

std::string copy_table_text(const CopyTable& table);

// ERRORS: InvalidArgument for what is no table, FailedPrecondition for that of another processor.
absl::StatusOr<CopyTable> parse_copy_table(std::string_view text);

// ERRORS: NotFound when there is no such file, which is no fault; what parse_copy_table() gives,
// and what reading gives, with the path and the remedy. Use default_copy_table() then.
absl::StatusOr<CopyTable> load_copy_table(const std::string& path = kCopyTableFile);

// Makes the directory that holds it, but none above.
absl::Status store_copy_table(const CopyTable& table, const std::string& path = kCopyTableFile);
// Whether that would work, to be known before the table is measured.
absl::Status can_store_copy_table(const std::string& path = kCopyTableFile);

// "avx512 x4, stores past the caches, prefetch 256 B"
std::string describe(CopyRecipe recipe);

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_TABLE_FILE_H_
