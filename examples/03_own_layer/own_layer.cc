// SPDX-License-Identifier: Apache-2.0
//
// Writes and reads a file through a layer of one's own, which has counted the bytes.
#include <cstdio>
#include <string_view>

#include "examples/03_own_layer/byte_counter.h"
#include "libservices/filesystem.h"
#include "libservices/sources/memory.h"

using namespace libservices;

int main() {
  Filesystem<example::ByteCounter<Memory>> fs({});
  if (!fs.start().ok()) return 1;
  const Context me;
  {
    auto file = fs.open(me, "/notes", {O_RDWR | O_CREAT}, 0644);
    if (!file.ok()) return 1;
    const std::string_view text = "a layer sees every byte";
    for (int i = 0; i < 3; ++i) {
      if (!fs.write(me, **file, std::as_bytes(std::span(text.data(), text.size()))).ok()) return 1;
    }
    char into[16];
    if (!fs.pread(me, **file, 0, std::as_writable_bytes(std::span(into))).ok()) return 1;
    if (!fs.close(me, std::move(*file)).ok()) return 1;
  }
  std::printf("%llu bytes written, %llu bytes read\n",
              static_cast<unsigned long long>(fs.stack().bytes_written()),
              static_cast<unsigned long long>(fs.stack().bytes_read()));
  return fs.stop().ok() ? 0 : 1;
}
