// SPDX-License-Identifier: Apache-2.0
//
// The kernel's own sockets and fifos that stand for those of the mounts: through them programs
// meet that bind, connect to, or open the same object by preload.
//
// Each lies in a directory that only the service can enter, under a name made of the mount and of
// what identifies the object (device, inode, birth), so that renames and hard links change nothing
// and the next service finds it again. Clients are given O_PATH descriptors, after a check of
// their rights on the object as it is now, and go on by /proc/self/fd; so they meet across network
// namespaces, too.
//
// A socket is bound by the service, on behalf of its owner, in a root directory of its own: the
// address that the kernel keeps, and shows to peers, is what the program gave to bind(2).
// A fifo has the owner, mode and access list of the object: who may read cannot open it to write.
//
// They go when the last name of their object goes, if it goes by preload, or with the pool.
// THREADS: everything may be called at once, `bind` by one thread at a time.
#ifndef LIBSERVICES_SRC_HOST_KERNEL_OBJECTS_H_
#define LIBSERVICES_SRC_HOST_KERNEL_OBJECTS_H_

#include <atomic>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "libservices/any_filesystem.h"
#include "src/host/descriptor.h"
#include "src/host/open_files.h"

namespace libservices::host {

class KernelObjects {
 public:
  explicit KernelObjects(std::string directory) : directory_(std::move(directory)) {}

  // Makes the directory, or takes over what a killed service has left there.
  // ERRORS: for a person to read.
  absl::Status start();
  // The service ends for good.
  void remove();

  // What stands for the socket or fifo `file`, of the instance mounted at `mount`; an O_PATH
  // descriptor. ERRORS: ECONNREFUSED when it is no socket or nobody has bound it; EACCES.
  Result<Descriptor> find_socket(const Context& context, std::string_view mount,
                                 const ServiceOpenFile& file);
  // It is made when it is first asked for. `mode`: R_OK, W_OK. ERRORS: ENXIO for no fifo; EACCES.
  Result<Descriptor> find_fifo(const Context& context, std::string_view mount,
                               const ServiceOpenFile& file, int mode);

  // Binds `socket` to `address`, as sun_path has it, and to the object `file`, which has just been
  // made. ERRORS: as bind(2).
  Result<void> bind(const Context& context, std::string_view mount, const ServiceOpenFile& file,
                    int socket, std::string_view address);

  // A name that is about to be taken away: if it is the last one of its object, what stands for
  // the object goes with it. Costs nothing while there are none.
  class Removal {
   public:
    Removal(KernelObjects& objects, AnyFilesystem& filesystem, std::string_view mount,
            const Context& context, const Location& location);
    ~Removal();
    Removal(const Removal&) = delete;
    Removal& operator=(const Removal&) = delete;
    void done();  // it was taken away

   private:
    KernelObjects& objects_;
    AnyFilesystem& filesystem_;
    const std::string_view mount_;
    const Context& context_;
    OpenFilePtr file_;  // null: nothing stands for it
  };

 private:
  Result<Descriptor> descriptor_of(const std::string& name) const;
  void take_rights(const std::string& name, const Attributes& attributes, const Context& context,
                   const ServiceOpenFile& file) const;

  const std::string directory_;
  Descriptor opened_;
  std::atomic<bool> any_{false};
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_KERNEL_OBJECTS_H_
