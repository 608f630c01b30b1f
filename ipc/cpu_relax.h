// SPDX-License-Identifier: Apache-2.0
//
// Two hints to the processor, for loops that wait on another core. Neither orders anything.
#ifndef LIBSERVICES_IPC_CPU_RELAX_H_
#define LIBSERVICES_IPC_CPU_RELAX_H_

namespace libservices::ipc {

// In a loop that only looks.
inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Before a load of a line that will be written: the line comes once, for both, not first to read
// and then again to write. (Compilers make a read hint of __builtin_prefetch(p, 1) on x86-64.)
inline void will_write([[maybe_unused]] const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1);
#endif
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_CPU_RELAX_H_
