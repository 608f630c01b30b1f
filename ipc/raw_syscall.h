// SPDX-License-Identifier: Apache-2.0
//
// System calls without libc: what the front driver uses inside an application whose libc calls are
// interposed. Each returns the kernel's answer, a negative errno on failure, and leaves errno alone.
//
// Use it in code that the preload library contains; elsewhere libc is the better choice.
#ifndef LIBSERVICES_IPC_RAW_SYSCALL_H_
#define LIBSERVICES_IPC_RAW_SYSCALL_H_

#include <sys/syscall.h>

#include <type_traits>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "ipc/raw_syscall.h knows x86-64 and AArch64"
#endif

namespace libservices::ipc::raw {

namespace internal {
template <class T>
inline long word(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}
inline long word(decltype(nullptr)) { return 0; }

inline long call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result = number;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
#else
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc #0"
               : "+r"(x0)
               : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
               : "memory");
  return x0;
#endif
}
}  // namespace internal

// syscall(SYS_read, fd, buffer, size)
template <class A = long, class B = long, class C = long, class D = long, class E = long,
          class F = long>
inline long syscall(long number, A a = {}, B b = {}, C c = {}, D d = {}, E e = {}, F f = {}) {
  using internal::word;
  return internal::call(number, word(a), word(b), word(c), word(d), word(e), word(f));
}

}  // namespace libservices::ipc::raw

#endif  // LIBSERVICES_IPC_RAW_SYSCALL_H_
