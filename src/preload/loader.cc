// SPDX-License-Identifier: Apache-2.0
//
// dlopen of a file of ours. libc's loader opens files by system calls of its own, so it is given a
// copy in memory, and then the name of the file for the object that it made. By that name it finds
// the object again, counts its users, and tells of it.
//
// libc's dlopen looks at who calls it: where the object of the caller says (DT_RUNPATH, $ORIGIN) it
// searches. So for all other names the functions here are jumps.
//
// THREADS: two that load a file for the first time at the same moment may get an object each. A
// lock around libc's function would be one too many: it runs the objects' constructors.
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/preload/execute.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

using OpenInSpace = void* (*)(Lmid_t, const char*, int);

// What dlerror is to say; the newest is libc's own, if that has any.
thread_local char message[512];
thread_local bool failed = false;

// In one place: to find a function of libc's ends the error that is waiting. So `load` begins here.
char* libc_error() { return LIBSERVICES_REAL(dlerror)(); }

void* fail(const char* path, const char* why) {
  (void)libc_error();
  snprintf(message, sizeof message, "%s: %s", path, why);
  failed = true;
  return nullptr;
}

void* fail(const char* path, long error) {
  char text[400];
  const char* const why = strerror_r(static_cast<int>(-error), text, sizeof text);
  char all[448];
  snprintf(all, sizeof all, "cannot open shared object file: %s", why);
  return fail(path, all);
}

// The file, its content as far as its times tell, and the name that libc has for its object.
struct Loaded {
  Loaded* next;
  struct stat file;
  Lmid_t space;
  char name[];
};
std::atomic<Loaded*> all_loaded{nullptr};  // Only added to.

bool is_same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

void* open_in(Lmid_t space, const char* name, int flags) {
  return LIBSERVICES_REAL_AS(OpenInSpace, "dlmopen")(space, name, flags);
}

// The newest that has the name: an older one's object is gone.
Loaded* find_name(Lmid_t space, const char* name) {
  Loaded* at = all_loaded.load(std::memory_order_acquire);
  while (at != nullptr && (at->space != space || strcmp(at->name, name) != 0)) at = at->next;
  return at;
}

// The object, with a user more; null if it is no longer there.
void* open_again(const Loaded& loaded, int flags) {
  void* const handle = open_in(loaded.space, loaded.name, flags | RTLD_NOLOAD);
  if (handle == nullptr) (void)libc_error();
  return handle;
}

// By libc's own rule: a name that an object has is that object's, whatever file has the name now.
void* find_loaded(Lmid_t space, const char* name, int flags) {
  const Loaded* const found = find_name(space, name);
  return found != nullptr ? open_again(*found, flags) : nullptr;
}

void* find_loaded(Lmid_t space, const struct stat& file, int flags) {
  for (Loaded* at = all_loaded.load(std::memory_order_acquire); at != nullptr; at = at->next) {
    if (at->space != space || !is_same(at->file, file) || find_name(space, at->name) != at) {
      continue;
    }
    void* const handle = open_again(*at, flags);
    if (handle != nullptr) return handle;
  }
  return nullptr;
}

void remember(Lmid_t space, const struct stat& file, const char* name) {
  const Loaded* const known = find_name(space, name);
  if (known != nullptr && is_same(known->file, file)) return;
  auto* const made = static_cast<Loaded*>(malloc(sizeof(Loaded) + strlen(name) + 1));
  if (made == nullptr) return;
  made->file = file;
  made->space = space;
  strcpy(made->name, name);
  made->next = all_loaded.load(std::memory_order_relaxed);
  while (!all_loaded.compare_exchange_weak(made->next, made, std::memory_order_release)) {
  }
}

// --- what an object needs -----------------------------------------------------------------------

// A file of ELF, mapped.
class Image {
 public:
  Image(int descriptor, std::size_t size) : size_(size) {
    const long mapped =
        size == 0 ? -EINVAL
                  : raw::syscall(SYS_mmap, nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0L);
    bytes_ = mapped < 0 && mapped > -4096 ? nullptr : reinterpret_cast<const char*>(mapped);
  }
  ~Image() {
    if (bytes_ != nullptr) raw::syscall(SYS_munmap, bytes_, size_);
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  // The dynamic section; `strings` is the place of its names. Null if there is none.
  const ElfW(Dyn) * dynamic(std::size_t& count, std::size_t& strings) const {
    const auto* const header = part<ElfW(Ehdr)>(0, 1);
    if (header == nullptr || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phentsize != sizeof(ElfW(Phdr))) {
      return nullptr;
    }
    const auto* const headers = part<ElfW(Phdr)>(header->e_phoff, header->e_phnum);
    if (headers == nullptr) return nullptr;
    const ElfW(Dyn)* found = nullptr;
    count = 0;
    for (unsigned i = 0; i < header->e_phnum; ++i) {
      if (headers[i].p_type != PT_DYNAMIC) continue;
      count = headers[i].p_filesz / sizeof(ElfW(Dyn));
      found = part<ElfW(Dyn)>(headers[i].p_offset, count);
    }
    strings = size_;
    for (std::size_t i = 0; found != nullptr && i < count; ++i) {
      if (found[i].d_tag != DT_STRTAB) continue;
      const ElfW(Addr) address = found[i].d_un.d_ptr;
      for (unsigned at = 0; at < header->e_phnum; ++at) {
        const ElfW(Phdr)& segment = headers[at];
        if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
            address - segment.p_vaddr < segment.p_filesz) {
          strings = segment.p_offset + (address - segment.p_vaddr);
        }
      }
    }
    return found;
  }

  // A string that ends within the file, or null.
  const char* string(std::size_t at) const {
    return at < size_ && memchr(bytes_ + at, '\0', size_ - at) != nullptr ? bytes_ + at : nullptr;
  }

 private:
  template <class T>
  const T* part(std::size_t offset, std::size_t count) const {
    if (bytes_ == nullptr || offset > size_ || count > (size_ - offset) / sizeof(T) ||
        offset % alignof(T) != 0) {
      return nullptr;
    }
    return reinterpret_cast<const T*>(bytes_ + offset);
  }

  const char* bytes_ = nullptr;
  std::size_t size_;
};

// `name` in the first directory of `list` that has it: true, and the path, if that is ours. An
// $ORIGIN in the list is the directory of the object's `path`.
bool find_in(const char* list, const char* origin_path, const char* name, char (&found)[PATH_MAX]) {
  const char* const slash = strrchr(origin_path, '/');
  const int origin = slash == nullptr ? 0 : static_cast<int>(slash - origin_path);
  while (list != nullptr && *list != '\0') {
    const auto length = static_cast<int>(strcspn(list, ":;"));
    int skipped = 0;
    if (strncmp(list, "$ORIGIN", 7) == 0) skipped = 7;
    if (strncmp(list, "${ORIGIN}", 9) == 0) skipped = 9;
    const int made = snprintf(found, sizeof found, "%.*s%.*s/%s", skipped != 0 ? origin : 0,
                              origin_path, length - skipped, list + skipped, name);
    struct stat attributes;
    if (length != 0 && made < PATH_MAX && calls::fstatat(AT_FDCWD, found, &attributes, 0) == 0 &&
        S_ISREG(attributes.st_mode)) {
      return leads_to_ours(AT_FDCWD, found);
    }
    list += length;
    if (*list != '\0') ++list;
  }
  return false;
}

// Files that are being loaded, on the way from one to what it needs.
struct Way {
  const Way* before;
  const struct stat* file;
};

// `given` is how a message tells of it.
void* load(Lmid_t space, const char* path, const char* given, int flags, const Way* way);

constexpr std::size_t kMostNeeded = 64;

// Loads what the object needs and has in a mount; libc then finds it by its DT_SONAME. Gives how
// many handles are to be closed when the object is loaded.
std::size_t load_needed(Lmid_t space, const char* path, int file, const struct stat& attributes,
                        int flags, const Way* way, void* (&handles)[kMostNeeded]) {
  const Image image(file, static_cast<std::size_t>(attributes.st_size));
  std::size_t count = 0;
  std::size_t strings = 0;
  const ElfW(Dyn)* const dynamic = image.dynamic(count, strings);
  if (dynamic == nullptr) return 0;
  const char* lists[3] = {nullptr, getenv("LD_LIBRARY_PATH"), nullptr};
  for (std::size_t i = 0; i < count; ++i) {
    if (dynamic[i].d_tag == DT_RPATH) lists[0] = image.string(strings + dynamic[i].d_un.d_val);
    if (dynamic[i].d_tag == DT_RUNPATH) lists[2] = image.string(strings + dynamic[i].d_un.d_val);
  }
  if (lists[2] != nullptr) lists[0] = nullptr;
  std::size_t loaded = 0;
  for (std::size_t i = 0; i < count && loaded < kMostNeeded; ++i) {
    if (dynamic[i].d_tag != DT_NEEDED) continue;
    const char* const name = image.string(strings + dynamic[i].d_un.d_val);
    if (name == nullptr || *name == '\0') continue;
    char needed[PATH_MAX];
    bool found = strchr(name, '/') != nullptr && strlen(name) < sizeof needed &&
                 leads_to_ours(AT_FDCWD, name);
    if (found) strcpy(needed, name);
    for (int list = 0; !found && list < 3 && strchr(name, '/') == nullptr; ++list) {
      found = find_in(lists[list], path, name, needed);
    }
    if (!found) continue;
    handles[loaded] = load(space, needed, needed, flags & (RTLD_LAZY | RTLD_NOW), way);
    if (handles[loaded] != nullptr) ++loaded;
  }
  return loaded;
}

// --- loading ------------------------------------------------------------------------------------

// A way to the descriptor that no object was loaded by before: libc knows objects by such names.
void name_copy(long descriptor, char (&into)[128]) {
  static std::atomic<std::uint32_t> copies{0};
  char* end = stpcpy(into, "/proc/self/fd/");
  for (std::uint32_t number = copies.fetch_add(1); number != 0; number >>= 1U) {
    end = stpcpy(end, (number & 1U) != 0 ? "./" : "/");
  }
  snprintf(end, static_cast<std::size_t>(into + sizeof into - end), "%ld", descriptor);
}

// Keeps libc's message, but for the name that it knew the file by.
void* fail_as_libc(const char* given, const char* copy) {
  const char* text = libc_error();
  if (text == nullptr) return nullptr;
  const std::size_t length = strlen(copy);
  const bool names_it = strncmp(text, copy, length) == 0 && text[length] == ':';
  snprintf(message, sizeof message, "%s%s", names_it ? given : "", names_it ? text + length : text);
  failed = true;
  return nullptr;
}

void* load_copy(Lmid_t space, const char* path, const char* given, int flags,
                const struct stat& file, long copy) {
  char name[128];
  name_copy(copy, name);
  void* const handle = open_in(space, name, flags);
  if (handle == nullptr) return fail_as_libc(given, name);
  link_map* object = nullptr;
  Lmid_t made = space;
  char* const known = strdup(path);
  if (known != nullptr && dlinfo(handle, RTLD_DI_LINKMAP, &object) == 0 &&
      dlinfo(handle, RTLD_DI_LMID, &made) == 0) {
    // The loader ends the new name with the object. The old one may be in use: a constructor can
    // have asked for it.
    object->l_name = known;
    remember(made, file, path);
  } else {
    free(known);
  }
  return handle;
}

void* load(Lmid_t space, const char* path, const char* given, int flags, const Way* way) {
  (void)libc_error();
  void* handle = space == LM_ID_NEWLM ? nullptr : find_loaded(space, path, flags);
  if (handle != nullptr) return handle;
  const long file = calls::open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return fail(given, file);
  const int descriptor = static_cast<int>(file);
  struct stat attributes;
  const long error = calls::fstat(descriptor, &attributes);
  bool under_way = false;
  for (const Way* at = way; at != nullptr; at = at->before) {
    under_way = under_way || is_same(*at->file, attributes);
  }
  if (error == 0 && space != LM_ID_NEWLM) handle = find_loaded(space, attributes, flags);
  if (error != 0) {
    (void)fail(given, error);
  } else if (!S_ISREG(attributes.st_mode)) {
    (void)fail(given, "cannot read file data: Is a directory");
  } else if (handle == nullptr && !under_way && (flags & RTLD_NOLOAD) == 0) {
    const long copy = calls::descriptor_to_load(descriptor);
    if (copy < 0) {
      (void)fail(given, copy);
    } else {
      void* needed[kMostNeeded];
      const Way step{way, &attributes};
      const std::size_t count =
          space == LM_ID_NEWLM
              ? 0
              : load_needed(space, path, static_cast<int>(copy), attributes, flags, &step, needed);
      handle = load_copy(space, path, given, flags, attributes, copy);
      for (std::size_t i = 0; i < count; ++i) (void)dlclose(needed[i]);
      raw::syscall(SYS_close, copy);
    }
  }
  (void)calls::close(descriptor);
  return handle;
}

// The file of ours that is meant, as an absolute path. Names with '$' are libc's to expand.
bool find_ours(const char* name, char (&path)[PATH_MAX]) {
  if (!active() || name == nullptr || *name == '\0' || strchr(name, '$') != nullptr) return false;
  if (strchr(name, '/') == nullptr) {
    return find_in(getenv("LD_LIBRARY_PATH"), "", name, path);
  }
  if (!leads_to_ours(AT_FDCWD, name)) return false;
  std::size_t length = 0;
  if (name[0] != '/') {
    const long size = calls::getcwd(path, sizeof path);
    if (size <= 0) return false;
    length = static_cast<std::size_t>(size) - 1;
    if (length + 1 < sizeof path) path[length++] = '/';
  }
  if (length + strlen(name) >= sizeof path) return false;
  strcpy(path + length, name);
  return true;
}

// The function to jump to, or null and the result.
struct Choice {
  void* function;
  void* result;
};

}  // namespace

LIBSERVICES_EXPORT Choice ls_choose_dlopen(const char* name, int flags) {
  const Call call(Symbol::dlopen);
  char path[PATH_MAX];
  if (find_ours(name, path)) return {nullptr, load(LM_ID_BASE, path, name, flags, nullptr)};
  return {reinterpret_cast<void*>(LIBSERVICES_REAL(dlopen)), nullptr};
}

LIBSERVICES_EXPORT Choice ls_choose_dlmopen(Lmid_t space, const char* name, int flags) {
  const Call call(Symbol::dlmopen);
  char path[PATH_MAX];
  if (find_ours(name, path)) return {nullptr, load(space, path, name, flags, nullptr)};
  return {reinterpret_cast<void*>(LIBSERVICES_REAL_AS(OpenInSpace, "dlmopen")), nullptr};
}

#if defined(__x86_64__)
#define LIBSERVICES_JUMP(name, choose)   \
  __asm__(                               \
      ".text\n"                          \
      ".globl " name                     \
      "\n"                               \
      ".type " name ", @function\n" name \
      ":\n"                              \
      ".cfi_startproc\n"                 \
      "  endbr64\n"                      \
      "  pushq %rdi\n"                   \
      "  pushq %rsi\n"                   \
      "  pushq %rdx\n"                   \
      ".cfi_adjust_cfa_offset 24\n"      \
      "  call " choose                   \
      "@PLT\n"                           \
      "  movq %rdx, %rcx\n"              \
      "  popq %rdx\n"                    \
      "  popq %rsi\n"                    \
      "  popq %rdi\n"                    \
      ".cfi_adjust_cfa_offset -24\n"     \
      "  testq %rax, %rax\n"             \
      "  je 1f\n"                        \
      "  jmp *%rax\n"                    \
      "1:\n"                             \
      "  movq %rcx, %rax\n"              \
      "  ret\n"                          \
      ".cfi_endproc\n"                   \
      ".size " name ", . - " name "\n")
LIBSERVICES_JUMP("ls_dlopen", "ls_choose_dlopen");
LIBSERVICES_JUMP("ls_dlmopen", "ls_choose_dlmopen");
#else
// The caller is this library then: what the program's DT_RUNPATH names is not searched.
LIBSERVICES_EXPORT void* ls_dlopen(const char* name, int flags) {
  const Choice choice = ls_choose_dlopen(name, flags);
  if (choice.function == nullptr) return choice.result;
  return LIBSERVICES_REAL(dlopen)(name, flags);
}
LIBSERVICES_EXPORT void* ls_dlmopen(Lmid_t space, const char* name, int flags) {
  const Choice choice = ls_choose_dlmopen(space, name, flags);
  return choice.function == nullptr ? choice.result : open_in(space, name, flags);
}
#endif

LIBSERVICES_EXPORT char* ls_dlerror() {
  const Call call(Symbol::dlerror);
  char* const text = libc_error();
  const bool ours = failed && text == nullptr;
  failed = false;
  return ours ? message : text;
}

}  // namespace libservices::preload
