// SPDX-License-Identifier: Apache-2.0
// The main function of a doctest program: link //tests/support:doctest_main and write test cases.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
