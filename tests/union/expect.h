// SPDX-License-Identifier: Apache-2.0
//
// What is expected of the union. A switch that is off keeps the calls that it is about out of the
// scripts, or lets them fail as it says; README.md says how to turn one on.
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
  // truncate to nothing changes the time of a lower file. Off: it is called with other lengths.
  bool emptying_changes_time = false;
  // An upper may hold whiteouts that hide nothing, also in a directory that no lower has. Off: an
  // upper begins without whiteouts.
  bool stray_whiteouts = false;
  // Empty files of a lower with the attribute trusted.overlay.whiteout hide names. Overlayfs shows
  // what they hide no more, yet refuses to remove their directories.
  bool attribute_whiteouts = false;
  // Times of directories stay. Not for overlayfs on ext4, where a rename that fails changes them.
  bool directory_times = true;
};

// In `Union` as it is: what is turned on one by one.
inline constexpr Expect kOfUnion{};
inline constexpr Expect kEverything{.directory_renames = true,
                                    .hard_links_survive = true,
                                    .inode_numbers_last = true,
                                    .emptying_changes_time = true,
                                    .stray_whiteouts = true,
                                    .attribute_whiteouts = true};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_EXPECT_H_
