// SPDX-License-Identifier: Apache-2.0
//
// The whole command `libservices`, with one's own libservice among the compositions.
#include "libservices/host.h"

#include "examples/04_own_host/greeting.h"

int main(int argc, char** argv) {
  libservices::Catalog catalog = libservices::standard_catalog();
  catalog.add<Greeting>("greeting");
  return libservices::command(argc, argv, catalog);
}
