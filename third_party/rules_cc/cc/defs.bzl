# SPDX-License-Identifier: Apache-2.0
"""The C++ rules that are built into Bazel, under the names by which Bazel's own tool packages load them.

Debian packages a release of rules_cc that needs a newer Bazel than Debian's; the rules themselves are in the Bazel binary.
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_import = native.objc_import
objc_library = native.objc_library
