// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the kernel's asynchronous interfaces, on files of ours and on the kernel's:
// results are those of the system calls.
#ifndef LIBSERVICES_SRC_PRELOAD_ASYNCHRONOUS_H_
#define LIBSERVICES_SRC_PRELOAD_ASYNCHRONOUS_H_

#include <linux/aio_abi.h>
#include <time.h>

namespace libservices::preload {

long submit_blocks(unsigned long context, long count, iocb** blocks);
long take_events(unsigned long context, long least, long most, io_event* events,
                 const timespec* timeout);
// `mask` is what the system call io_pgetevents takes.
long take_events_masked(unsigned long context, long least, long most, io_event* events,
                        const timespec* timeout, const void* mask);

// Whether a setup of io_uring fails with ENOSYS.
bool refuses_rings();

}  // namespace libservices::preload

#endif  // LIBSERVICES_SRC_PRELOAD_ASYNCHRONOUS_H_
