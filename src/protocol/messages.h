// SPDX-License-Identifier: Apache-2.0
//
// The wire format between the filesystem library (front driver) and a filesystem service: which
// operations there are, and what their words and bytes mean.
//
// A request travels in a request buffer of `ipc`: an operation, the index of the instance, twelve
// words and input bytes; the answer has an error, words and output bytes. Each operation's words
// are a struct here, copied as it stands. Both sides are of one machine: native byte order.
//
// Nobody's identity, and no address, is ever in a request. Handles are the session's own: an index
// and a generation, checked by the service at each use.
//
// Freestanding: the preload library includes it, so no header here needs libstdc++.so.
#ifndef LIBSERVICES_SRC_PROTOCOL_MESSAGES_H_
#define LIBSERVICES_SRC_PROTOCOL_MESSAGES_H_

#include <cstdint>
#include <type_traits>

#include "libservices/attributes.h"
#include "libservices/inode_flags.h"
#include "libservices/open_flags.h"

namespace libservices::protocol {

enum class Operation : std::uint16_t {
  kNothing = 0,  // answers at once: round trips are measured with it
  kOpen,
  kClose,
  kRead,
  kWrite,
  kSeek,
  kReaddir,
  kFsync,
  kFallocate,
  kCopyRange,
  kStat,
  kSetattr,
  kAccess,
  kStatfs,
  kMkdir,
  kMknod,
  kSymlink,
  kReadlink,
  kLink,
  kUnlink,
  kRmdir,
  kRename,
  kGetxattr,
  kSetxattr,
  kListxattr,
  kRemovexattr,
  kLock,
  kTestLock,
  kSetFlags,
  kGetFlags,
  kPathOf,
  kGetInodeFlags,
  kSetInodeFlags,
  kMap,
  kMakeSocket,
  kHandOver,
  kLast = kHandOver,
};

// A service open file as the session knows it; kRoot is the root of the request's instance.
using Handle = std::uint64_t;
inline constexpr Handle kRoot = 0;

// A placeholder of the session's stock (see placeholder.h); kNone where no descriptor is needed.
using Placeholder = std::uint32_t;
inline constexpr Placeholder kNone = 0;

// An answer's error is an errno, or this: the walk left the instance. The output bytes are then
// what is left of the path ("/…" or "../…"), and the first word says of which path, 0 or 1.
inline constexpr std::int32_t kOutside = 4096;

// How a request names an object: path bytes follow in the input, `path_bytes` long, without NUL.
struct Target {
  enum Flags : std::uint32_t {
    kFollow = 1U << 0,  // follow a symbolic link in the last component
    kItself = 1U << 1,  // the open file `base` itself; there is no path
    // What openat2 says of the walk: RESOLVE_BENEATH, RESOLVE_IN_ROOT (not both), _NO_SYMLINKS.
    kBeneath = 1U << 2,
    kInRoot = 1U << 3,
    kNoLinks = 1U << 4,
  };
  Handle base = kRoot;
  std::uint32_t flags = 0;
  std::uint32_t path_bytes = 0;
};
static_assert(sizeof(Target) == 16);

// Input: the path. The answer's words are an OpenAnswer.
struct OpenRequest {
  Target target;
  std::uint32_t flags = 0;  // O_*
  std::uint16_t mode = 0;   // of a file that is made
  std::uint16_t umask = 0;  // is not used below a directory with a default access control list
  Placeholder placeholder = kNone;  // takes its place in the descriptor table of the process
  std::uint32_t for_chdir = 0;      // 1: a directory that the caller may search, else EACCES
};
struct OpenAnswer {
  Handle handle = 0;
  std::uint32_t flags = 0;  // O_* as F_GETFL shall report them
  std::uint32_t mode = 0;   // st_mode
};

// exclusive: no other process has a descriptor of this open file; it ends now and its placeholder
// may be used again. Otherwise only this session's handle ends (with the record locks of its
// process), and the open file lives until the kernel reports its last descriptor closed.
struct CloseRequest {
  Handle handle = 0;
  std::uint32_t exclusive = 0;
};
struct CloseAnswer {
  std::uint32_t held = 0;  // 1: another session has it after all, so the placeholder stays its own
};

inline constexpr std::uint64_t kCurrentOffset = UINT64_MAX;

// Output of more bytes than this may come in parts of it: see ipc::RequestBuffer::progress.
inline constexpr std::uint32_t kReadPart = 65536;

struct ReadRequest {  // output: the bytes; the answer's output_bytes is the count
  Handle handle = 0;
  std::uint64_t offset = kCurrentOffset;
  std::uint64_t count = 0;
};
struct WriteRequest {  // input: the bytes; the first word of the answer is the count
  Handle handle = 0;
  std::uint64_t offset = kCurrentOffset;
  Placing placing = Placing::kByFlags;
  std::uint8_t reserved[7] = {};
};
struct SeekRequest {  // the first word of the answer is the new offset
  Handle handle = 0;
  std::int64_t offset = 0;
  std::int32_t whence = 0;
};
// Output: records of struct linux_dirent64, at most `count` bytes. First word of the answer: 1 when
// these are the last.
struct ReaddirRequest {
  Handle handle = 0;
  std::uint64_t count = 0;
};
struct FsyncRequest {
  Handle handle = 0;
  std::uint32_t data_only = 0;
};
struct FallocateRequest {
  Handle handle = 0;
  std::int32_t mode = 0;
  std::uint32_t reserved = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};
struct CopyRangeRequest {  // kCurrentOffset uses and moves the offset; first word: bytes copied
  Handle from = 0;
  std::uint64_t from_offset = kCurrentOffset;
  Handle to = 0;
  std::uint64_t to_offset = kCurrentOffset;
  std::uint64_t length = 0;
};

struct StatRequest {  // the words of the answer are an Attributes
  Target target;
};
struct SetattrRequest {
  Target target;
  AttributeChanges changes;
};
struct AccessRequest {
  Target target;
  std::uint32_t mode = 0;  // R_OK, W_OK, X_OK, F_OK
};
struct StatfsRequest {  // the words of the answer are a VolumeInfo
  Target target;
};
struct MknodRequest {  // mkdir too; and kMakeSocket, whose answer's words are an OpenAnswer
  Target target;
  std::uint32_t mode = 0;
  std::uint32_t umask = 0;
  std::uint64_t special_device = 0;
};
struct SymlinkRequest {  // input: the path, then the link's target
  Target target;
  std::uint32_t link_bytes = 0;
};
struct ReadlinkRequest {  // output: the link's target, at most `count` bytes
  Target target;
  std::uint64_t count = 0;
};
struct UnlinkRequest {  // rmdir too
  Target target;
};
struct TwoTargetsRequest {  // link, rename: input: the path of `from`, then that of `to`
  Target from;
  Target to;
  std::uint32_t mode = 0;  // RenameMode
};

struct XattrRequest {  // input: the path, the name, then for setxattr the value
  Target target;
  std::uint32_t name_bytes = 0;
  std::uint32_t mode = 0;      // XattrMode
  std::uint64_t count = 0;     // get and list: room for the answer, 0 asks for its size;
};                             // set: bytes of the value. First word of an answer: the whole size

struct InodeFlagsRequest {  // of a get only the form counts, and the answer's words are an InodeFlags
  Target target;
  InodeFlags flags;
};

struct LockWords {  // the words of a kTestLock answer are one too
  Handle handle = 0;
  std::uint32_t owner = 0;  // LockRequest::Owner
  std::uint32_t type = 0;   // LockRequest::Type
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::int64_t pid = 0;     // in the answer
};

struct FlagsRequest {  // kSetFlags sets, both answer the flags in the first word
  Handle handle = 0;
  std::uint32_t flags = 0;
};
// A descriptor with the bytes of a regular file, for a mapping that is made of it; the first word of
// the answer names it to SocketRequestType::kMapped. EOPNOTSUPP: there is none for this file.
struct MapRequest {
  Handle handle = 0;
  std::uint32_t writes = 0;  // 1: the mapping may change the file
};
// Output: a name in the root of the instance's mount at the kernel. Who opens it there, once, has
// this open file. EOPNOTSUPP: there is no such mount.
struct HandOverRequest {
  Handle handle = 0;
};
struct PathOfRequest {  // output: the path from the root of the instance, "/…"
  Handle handle = 0;
};

inline constexpr unsigned kRequestWords = 12;
inline constexpr unsigned kAnswerWords = 24;
template <class T>
concept FitsRequest = std::is_trivially_copyable_v<T> && sizeof(T) <= 8 * kRequestWords;
template <class T>
concept FitsAnswer = std::is_trivially_copyable_v<T> && sizeof(T) <= 8 * kAnswerWords;
static_assert(FitsRequest<SetattrRequest> && FitsRequest<TwoTargetsRequest>);
static_assert(FitsRequest<CopyRangeRequest> && FitsRequest<LockWords> && FitsRequest<OpenRequest>);
static_assert(FitsRequest<InodeFlagsRequest> && FitsAnswer<InodeFlags>);
static_assert(FitsAnswer<Attributes> && FitsAnswer<VolumeInfo> && FitsAnswer<OpenAnswer> &&
              FitsAnswer<CloseAnswer>);

}  // namespace libservices::protocol

#endif  // LIBSERVICES_SRC_PROTOCOL_MESSAGES_H_
