/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

int needed_value(void);

int plugin_value(void) { return needed_value() + 1; }

__attribute__((constructor)) static void begin(void) { printf("plugin begins\n"); }
__attribute__((destructor)) static void end(void) { printf("plugin ends\n"); }
