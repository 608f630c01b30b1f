// SPDX-License-Identifier: Apache-2.0
//
// A filesystem of this process, mounted at the kernel while this object is there.
#ifndef LIBSERVICES_TESTS_FUSE_MOUNTED_H_
#define LIBSERVICES_TESTS_FUSE_MOUNTED_H_

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "libservices/any_filesystem.h"
#include "src/fuse/device.h"
#include "src/fuse/mount.h"
#include "src/fuse/session.h"
#include "tests/fuse/why_no_mounts.h"

namespace libservices::testing {

// LIBSERVICES_TEST_RINGS=1: requests come over io_uring, whose switch at the kernel is on for so long.
class FuseOverIoUring {
 public:
  FuseOverIoUring() {
    const char* const wanted = std::getenv("LIBSERVICES_TEST_RINGS");
    if (wanted == nullptr || std::string_view(wanted) != "1") return;
    std::ifstream(kRingsSwitch) >> before_;
    std::ofstream(kRingsSwitch) << "1";
  }
  ~FuseOverIoUring() {
    if (is_on()) std::ofstream(kRingsSwitch) << before_;
  }
  FuseOverIoUring(const FuseOverIoUring&) = delete;
  FuseOverIoUring& operator=(const FuseOverIoUring&) = delete;

  bool is_on() const { return !before_.empty(); }

 private:
  std::string before_;
};

class Mounted {
 public:
  // Of a filesystem that is started. On a new directory.
  explicit Mounted(AnyFilesystem& filesystem, fuse::Session::Options options = {})
      : session_(filesystem, options) {
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
    auto descriptor = fuse::mount({.path = path_, .source = "test", .allow_other = true,
                                   .read_only = false, .options = {}});
    REQUIRE_MESSAGE(descriptor.ok(), std::string(descriptor.status().message()));
    device_ = std::make_unique<fuse::Device>(session_, *std::move(descriptor),
                                             fuse::Device::Options{.rings = io_uring_.is_on(), .on_end = {}});
    REQUIRE(device_->start());
    REQUIRE(session_.wait_until_negotiated(std::chrono::seconds(10)));
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (device_->uses_rings() != io_uring_.is_on()) {
      REQUIRE(std::chrono::steady_clock::now() < give_up);  // somebody else has turned the switch
      std::this_thread::yield();
    }
  }
  ~Mounted() {
    fuse::unmount_own(path_);
    device_->stop();
    session_.end();
    CHECK(::rmdir(path_.c_str()) == 0);
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  fuse::Session& session() { return session_; }

 private:
  const FuseOverIoUring io_uring_;
  std::string path_ = "/tmp/libservices-mount-XXXXXX";
  fuse::Session session_;
  std::unique_ptr<fuse::Device> device_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_MOUNTED_H_
