# SPDX-License-Identifier: Apache-2.0
"""Tests that run programs under the built preload library."""

def preloaded_test(name, script = None, programs = [], size = "small", flags = []):
    """A script that gets the command, the preload library and programs.

    Neither sanitizer can enter what is preloaded.

    Args:
      name: of the test.
      script: its file; without it, NAME.sh.
      programs: labels, whose files are the script's further arguments.
      size: as of any test.
      flags: words before all others.
    """
    built = ["//src/cli:libservices", "//src/preload:libservices-preload.so"] + programs
    native.sh_test(
        name = name,
        size = size,
        srcs = [script or name + ".sh"],
        args = flags + ["$(location %s)" % label for label in built],
        data = built + ["//tests/support:checks"],
        tags = [
            "no-asan",
            "no-tsan",
        ],
    )
