# SPDX-License-Identifier: Apache-2.0
"""How code is compiled that also runs where no libc has been started: in the command's first part."""

TINY = [
    # Without optimisation the standard library's own checks would stay in, and throw.
    "-O2",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-stack-protector",
    "-fno-threadsafe-statics",
    "-fno-sanitize=all",
    # Checked variants of libc's functions are not among those it has.
    "-U_FORTIFY_SOURCE",
]
