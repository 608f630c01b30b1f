// SPDX-License-Identifier: Apache-2.0
//
// A fault point: a place where a test may end the process, named after what has just been done.
// Without the test it is nothing.
//
// Freestanding.
#ifndef LIBSERVICES_IPC_FAULT_POINT_H_
#define LIBSERVICES_IPC_FAULT_POINT_H_

#ifdef LIBSERVICES_FAULT_POINTS
void reached_fault_point(const char* name);
#define LIBSERVICES_FAULT_POINT(name) ::reached_fault_point(name)
#else
#define LIBSERVICES_FAULT_POINT(name) static_cast<void>(0)
#endif

#endif  // LIBSERVICES_IPC_FAULT_POINT_H_
