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
  // Files of a layer with the attribute trusted.overlay.whiteout hide names.
  bool attribute_whiteouts = false;
};

inline constexpr Expect kEverything{.directory_renames = true,
                                    .hard_links_survive = true,
                                    .inode_numbers_last = true,
                                    .attribute_whiteouts = true};
// Of `Union` as it is.
inline constexpr Expect kOfUnion{};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_EXPECT_H_
