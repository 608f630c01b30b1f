// SPDX-License-Identifier: Apache-2.0
//
// The copy kernels: one memory copy by one thread, in the variants that the tuner chooses from.
//
// The vector loops align the destination and leave both ends to libc. After non-temporal stores
// they fence, so that a release store which follows publishes the bytes as after memcpy.
// On processors other than x86-64 there is libc's memcpy alone.
//
// Freestanding: needs libc alone, takes no memory, holds no lock. THREADS: any.
#ifndef LIBSERVICES_IPC_COPY_KERNELS_H_
#define LIBSERVICES_IPC_COPY_KERNELS_H_

#include <cstddef>

#include "ipc/copy_table.h"

namespace libservices::ipc {

// Whether this processor, under this operating system, runs the kernel.
bool can_run(CopyKernel kernel);

// REQUIRES: can_run(recipe.kernel), and that the two ranges do not overlap. Any other field may
// hold anything: a recipe that is not sound is memcpy.
void copy_by(CopyRecipe recipe, void* to, const void* from, std::size_t size);

// The table that copies may follow: `untrusted` if it is sound, with memcpy for each kernel that
// this processor does not run, and otherwise the default. `untrusted` may change meanwhile: it is
// copied first.
CopyTable adopt_table(const CopyTable& untrusted);

// What tells one kind of processor from another: vendor, family, model, stepping, marketed name.
void cpu_model(char (&text)[sizeof CopyTable::cpu]);

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_KERNELS_H_
