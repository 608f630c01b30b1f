// SPDX-License-Identifier: Apache-2.0
//
// What is expected. A switch that is off keeps the calls that it is about out of the scripts, or
// lets them fail as it says: where overlayfs takes part, some are.
#ifndef LIBSERVICES_TESTS_UNION_EXPECT_H_
#define LIBSERVICES_TESTS_UNION_EXPECT_H_

namespace libservices::testing {

struct Expect {
  // Directories with a part in a lower are renamed. Off: they may fail with EXDEV, and overlayfs is
  // mounted without redirect_dir on branches that both use.
  bool directory_renames = false;
  // Hard links of a lower stay one file when one is copied up. Off: layers have no hard links, and
  // overlayfs is mounted without index on branches that both use.
  bool hard_links_survive = false;
  // Inode numbers stay after a restart on the same branches.
  bool inode_numbers_last = false;
  // In a removed directory that is still open nothing is found. Off: no calls begin in one.
  bool removed_directories_are_empty = false;
  // truncate to nothing changes the time of a lower file. Off: it is called with other lengths.
  bool emptying_changes_time = false;
  // An upper may hold whiteouts that hide nothing, also in a directory that no lower has. Off: an
  // upper begins without whiteouts.
  bool stray_whiteouts = false;
  // Empty files of a lower with the attribute trusted.overlay.whiteout hide names. Overlayfs shows
  // what they hide no more, yet refuses to remove their directories.
  bool attribute_whiteouts = false;
  // Listings say the inode numbers that stat does. Not once overlayfs has moved a file that the
  // union copied up: it does not mark the directory then.
  bool numbers_listed = true;
  // Files are copied up in part, in ranges of 4 KiB. Off: whole, so that overlayfs has them, too.
  bool files_in_part = false;
  // Times of directories stay. Not for overlayfs on ext4, where a rename that fails changes them.
  bool directory_times = true;
};

inline constexpr Expect kEverything{.directory_renames = true,
                                    .hard_links_survive = true,
                                    .inode_numbers_last = true,
                                    .removed_directories_are_empty = true,
                                    .emptying_changes_time = true,
                                    .stray_whiteouts = true,
                                    .attribute_whiteouts = true,
                                    .files_in_part = true};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_EXPECT_H_
