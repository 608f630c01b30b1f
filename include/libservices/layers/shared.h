// SPDX-License-Identifier: Apache-2.0
//
// `Shared<Lower>`: one instance beneath several stacks, each of which holds a Shared of it.
//
//   auto image = share<Local>({.directory = "/srv/image"});
//   Union<Local, Shared<Local>> first({.upper = …, .lowers = {{.instance = image}}});
//
// The first start() starts the instance and the last stop() stops it.
#ifndef LIBSERVICES_LAYERS_SHARED_H_
#define LIBSERVICES_LAYERS_SHARED_H_

#include <memory>
#include <mutex>
#include <utility>

#include "libservices/layers/forwarding.h"

namespace libservices {

template <ReadableService Lower>
struct SharedInstance {
  explicit SharedInstance(typename Lower::Config config) : service(std::move(config)) {}

  Lower service;
  std::mutex mutex;  // guards users
  int users = 0;     // started and not yet stopped
};

template <ReadableService Lower>
std::shared_ptr<SharedInstance<Lower>> share(typename Lower::Config config) {
  return std::make_shared<SharedInstance<Lower>>(std::move(config));
}

template <ReadableService Lower>
class Shared : public Forwarding<Lower, PassOn, std::shared_ptr<SharedInstance<Lower>>> {
  using Pointer = std::shared_ptr<SharedInstance<Lower>>;
  using Base = Forwarding<Lower, PassOn, Pointer>;

 public:
  struct Config {
    Pointer instance;  // REQUIRES: not null
  };

  explicit Shared(Config config)
      : Base(std::in_place, config.instance), instance_(std::move(config.instance)) {}

  absl::Status start()
    requires HasLifecycle<Lower>
  {
    std::lock_guard lock(instance_->mutex);
    if (instance_->users == 0) {
      if (absl::Status started = instance_->service.start(); !started.ok()) return started;
    }
    ++instance_->users;
    return absl::OkStatus();
  }
  absl::Status stop()
    requires HasLifecycle<Lower>
  {
    std::lock_guard lock(instance_->mutex);
    return --instance_->users == 0 ? instance_->service.stop() : absl::OkStatus();
  }

 private:
  Pointer instance_;
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_SHARED_H_
