// SPDX-License-Identifier: Apache-2.0
//
// What docs/union_semantics.md does not promise today. Each switch that is false lets a test accept
// what it names; whoever makes the promise sets it to true.
#ifndef LIBSERVICES_TESTS_CRASH_PROMISES_H_
#define LIBSERVICES_TESTS_CRASH_PROMISES_H_

namespace libservices::testing {

// False: a crash in the rename of a file that a lower shows may leave both names.
inline constexpr bool kRenameOfLowerFileIsOneStep = true;
// False: such a rename that fails between its two steps may leave both names.
inline constexpr bool kFailedRenameChangesNothing = true;
// False: a crash in the rename of an upper directory may leave a directory at the old name.
inline constexpr bool kRenameOfUpperDirectoryIsOneStep = false;
// False: the rename of a directory that has a part in a lower is EXDEV.
inline constexpr bool kLowerDirectoriesAreRenamed = true;
// False: the names of a lower file come apart at its copy-up, once the instance has been restarted.
inline constexpr bool kLinksOfLowerFilesStay = true;
// False: a crash may leave the count of links of a file that has several names in a lower one off.
inline constexpr bool kLinkCountsSurviveCrashes = false;
// False: a crash in a copy-up may leave the directory's times changed.
inline constexpr bool kCopyUpKeepsDirectoryTimes = false;
// False: a crash in the truncation of a lower file to nothing may leave it empty with its old time.
inline constexpr bool kTruncationIsOneStep = true;

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_CRASH_PROMISES_H_
