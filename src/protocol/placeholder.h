// SPDX-License-Identifier: Apache-2.0
//
// Placeholders: the kernel descriptors that stand for service open files in an application's
// descriptor table, and the messages about them on the session's socket.
//
// A placeholder is an O_PATH descriptor of an unlinked inode that the service made: a socket
// inode (read, write, lseek, mmap and epoll on it fail with EBADF, reopening it with ENXIO), or,
// for the working directory, a removed directory (every relative name in it fails with ENOENT).
// A call that slipped past the library therefore fails, and never seems to succeed.
//
// The kernel does the bookkeeping: dup, close, fork, exec and SCM_RIGHTS work as for any
// descriptor. (st_dev, st_ino) of the descriptor identifies the service open file. The service
// watches each inode (inotify, IN_DELETE_SELF): the event comes when the last descriptor or
// working directory anywhere that refers to it is gone, also by SIGKILL, also one that was in
// flight on a socket. That, and no count kept by applications, ends a shared open file.
//
// A session is given a stock of placeholders for files ahead, and asks for one of the other kind.
// To open a file the library duplicates one of its stock to the lowest free number and names it in
// the request, so an open costs no message on the socket. After an exclusive close the same
// placeholder serves the next open.
#ifndef LIBSERVICES_SRC_PROTOCOL_PLACEHOLDER_H_
#define LIBSERVICES_SRC_PROTOCOL_PLACEHOLDER_H_

#include <cstdint>

#include "src/protocol/messages.h"

namespace libservices::protocol {

// Appended to ipc's welcome message, with the descriptors of the stock in the same order.
struct StockEntry {
  Placeholder id = kNone;
  std::uint32_t is_directory = 0;  // for the working directory
  std::uint64_t inode = 0;
};

// Files, given with the welcome. Each costs the service some 20 µs, and most processes are short
// and have few files open at a time; those that want more ask for twice as many each time.
inline constexpr unsigned kFirstStock = 3;
inline constexpr unsigned kStockRefill = 64;  // at most in one message later on

struct Welcome {
  std::uint64_t placeholder_device = 0;  // st_dev of every placeholder of this service
  std::uint64_t mount_table = 0;         // MountTable::number of this service
  std::uint32_t stock_count = 0;
  std::uint32_t reserved = 0;
  StockEntry stock[kFirstStock];
};

// Later messages on the socket: the library asks, the service answers with one message.
enum class SocketRequestType : std::uint32_t {
  kStock = 1,  // more placeholders: `count` files (or, with is_directory, directories)
  kAdopt = 2,  // descriptors (inherited or received) are attached: give me handles for them
  kMapped = 3,  // the descriptor that the answer to a kMap named with `number`, once
  // ObjectRequests.
  kBindSocket =
      4,  // the attached socket, to `address` and to what kMakeSocket made; ends the handle
  kFindSocket = 5,  // an O_PATH descriptor of the kernel's socket that is bound there
  kFindFifo = 6,    // an O_PATH descriptor of the kernel's fifo that stands for this one
  kWatch = 7,       // an O_PATH descriptor of its shadow, to be watched by inotify (watches.h)
};

struct SocketRequest {
  SocketRequestType type{};
  std::uint32_t count = 0;
  std::uint32_t is_directory = 0;
  std::uint32_t number = 0;
};

// About an object of a mount for which one of the kernel's stands (kernel_objects.h, watches.h).
struct ObjectRequest {
  SocketRequestType type{};
  std::uint32_t mode = 0;           // kFindFifo: R_OK, W_OK
  Handle handle = 0;                // of the object; O_PATH will do
  std::uint32_t address_bytes = 0;  // kBindSocket: as given to bind(2), without NUL
  char address[108] = {};
};

// The answer to kAdopt: one for each descriptor; handle 0 = not (or no longer) an open file here.
struct Adopted {
  Handle handle = 0;
  std::uint32_t instance = 0;
  std::uint32_t flags = 0;  // O_*
  std::uint32_t mode = 0;   // st_mode
  std::int32_t error = 0;   // why there is no handle: EBADF for what was never opened here, EIO for
};                          // what was open in a service that died, and cannot be opened again
inline constexpr unsigned kMostAdopted = 64;  // in one message

struct SocketAnswer {
  std::int32_t error = 0;
  std::uint32_t count = 0;
  union {
    StockEntry stock[kStockRefill];  // with the descriptors attached
    Adopted adopted[kMostAdopted];
  };
  SocketAnswer() : stock() {}
};

}  // namespace libservices::protocol

#endif  // LIBSERVICES_SRC_PROTOCOL_PLACEHOLDER_H_
