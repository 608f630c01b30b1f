// SPDX-License-Identifier: Apache-2.0
#include "libservices/host.h"

int main(int argc, char** argv) {
  return libservices::command(argc, argv, libservices::standard_catalog());
}
