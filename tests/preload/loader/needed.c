/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

int needed_value(void) { return NEEDED_VALUE; }

__attribute__((constructor)) static void begin(void) { printf("needed begins\n"); }
__attribute__((destructor)) static void end(void) { printf("needed ends\n"); }
