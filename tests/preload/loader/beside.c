/* SPDX-License-Identifier: Apache-2.0 */
int beside_value(void) { return 77; }
