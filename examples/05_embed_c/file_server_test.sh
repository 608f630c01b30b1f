#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The example prints what it shall print.
set -eu
"$1" <"$2" | diff - "$3"
echo "1 passed, 0 failed, 0 skipped"
