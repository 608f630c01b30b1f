# SPDX-License-Identifier: Apache-2.0
"""Abseil as the system has it, from its archives: loading thirty small shared objects takes a program longer than `true` runs."""

_ARCHIVES = [
    "statusor",
    "status",
    "strerror",
    "cord",
    "cordz_info",
    "cord_internal",
    "cordz_functions",
    "cordz_handle",
    "raw_hash_set",
    "hashtablez_sampler",
    "exponential_biased",
    "synchronization",
    "graphcycles_internal",
    "stacktrace",
    "symbolize",
    "debugging_internal",
    "demangle_internal",
    "malloc_internal",
    "time",
    "civil_time",
    "time_zone",
    "hash",
    "city",
    "bad_optional_access",
    "bad_variant_access",
    "low_level_hash",
    "str_format_internal",
    "strings",
    "strings_internal",
    "base",
    "spinlock_wait",
    "int128",
    "throw_delegate",
    "raw_logging_internal",
    "log_severity",
]

_LINKOPTS = (
    ["-Wl,--push-state,--start-group,-Bstatic"] +
    ["-labsl_" + name for name in _ARCHIVES] +
    ["-Wl,--end-group,--pop-state"]
)

def absl_libraries(names):
    """One cc_library for each pkg-config module in `names`.

    They share one list: `pkg-config --libs` names nearly all of them for nearly every module, because Abseil's inline functions call
    into them, and the linker takes what a program uses.

    Args:
      names: pkg-config names of Abseil modules.
    """
    for name in names:
        native.cc_library(
            name = name,
            linkopts = _LINKOPTS,
        )
