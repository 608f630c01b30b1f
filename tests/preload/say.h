/* SPDX-License-Identifier: Apache-2.0
 *
 * For programs whose output is compared: SAY prints an expression, its value, and errno where that
 * is negative. */
#ifndef LIBSERVICES_TESTS_PRELOAD_SAY_H_
#define LIBSERVICES_TESTS_PRELOAD_SAY_H_

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SAY(expression) (errno = 0, say(#expression, (long)(expression)))
static inline long say(const char* what, long result) {
  const int error = errno;
  printf("%s = %ld%s%s\n", what, result, result < 0 ? " " : "", result < 0 ? strerror(error) : "");
  fflush(stdout);
  return result;
}

#endif  // LIBSERVICES_TESTS_PRELOAD_SAY_H_
