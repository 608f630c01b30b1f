#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec python3 tools/test_summary_test.py
