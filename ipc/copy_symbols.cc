// SPDX-License-Identifier: Apache-2.0
//
// Uses all of the copies that the preload library may use; copy_symbols_test.sh looks at what that
// asks of the linker.
#include "ipc/copy_cma.h"
#include "ipc/copy_shared.h"

namespace libservices::ipc {

long use_all_copies(CopyLink link, const CopyTable& untrusted, std::atomic<std::uint32_t>& counter,
                    void* to, const void* from, std::size_t size) {
  const CopyTable table = adopt_table(untrusted);
  copy_bytes(to, from, size, table);
  ChunkReceiver(to, size, link.channel->data, table).take_up_to(counter.load());
  Smc smc(link);
  Smo smo(link, table);
  Cma cma(link);
  return smc.send(from, size) + smc.receive(to, size) + smo.send(from, size) +
         smo.receive(to, size) + cma.send(from, size) + cma.receive(to, size);
}

}  // namespace libservices::ipc
