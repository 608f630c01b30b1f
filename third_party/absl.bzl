# SPDX-License-Identifier: Apache-2.0
"""Abseil as the system has it: many small shared objects, of which the linker keeps those that are used."""

_LIBRARIES = [
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
    ["-Wl,--push-state,--as-needed"] +
    ["-labsl_" + name for name in _LIBRARIES] +
    ["-Wl,--pop-state"]
)

# For a program, not for a shared object: their code is not position independent enough. Before the shared ones, which are not needed then. Loading
# thirty small objects takes longer than `true` runs.
ABSL_ARCHIVES = (
    ["-Wl,--push-state,--start-group,-Bstatic"] +
    ["-labsl_" + name for name in _LIBRARIES] +
    ["-Wl,--end-group,--pop-state"]
)

def absl_libraries(names):
    """One cc_library for each pkg-config module in `names`.

    They share one list of shared objects: `pkg-config --libs` names nearly all of them for nearly every module,
    because Abseil's inline functions call into them, and --as-needed drops what a program does not use.

    Args:
      names: pkg-config names of Abseil modules.
    """
    for name in names:
        native.cc_library(
            name = name,
            linkopts = _LINKOPTS,
        )
