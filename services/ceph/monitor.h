// SPDX-License-Identifier: Apache-2.0
//
// What is asked of a cluster's monitors, in JSON, by librados.
#ifndef LIBSERVICES_SERVICES_CEPH_MONITOR_H_
#define LIBSERVICES_SERVICES_CEPH_MONITOR_H_

#include <rados/librados.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/ceph/client.h"

namespace libservices::ceph_internal {

class Monitor {
 public:
  // ERRORS: `ceph-tenant: …`, as of all that follows.
  static absl::StatusOr<std::unique_ptr<Monitor>> connect(const ClientConfig& config);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  // `command` has the "prefix" and the arguments. The answer is null where there is none.
  // WARNING: answers to "auth …" have keys in them.
  absl::StatusOr<nlohmann::json> ask(nlohmann::json command) const;
  // `client.NAME`, as whom it asks.
  std::string who() const { return "client." + client_; }

 private:
  explicit Monitor(std::string client) : client_(std::move(client)) {}

  const std::string client_;
  rados_t cluster_ = nullptr;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_MONITOR_H_
