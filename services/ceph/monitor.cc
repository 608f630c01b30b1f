// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/monitor.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "services/ceph/tenant_errors.h"

namespace libservices::ceph_internal {
namespace {

using nlohmann::json;

constexpr const char* kCommandTimeout = "30";  // seconds; the monitors elect one in less

absl::Status failed(int answer, std::string_view what, std::string_view why,
                    std::string_view mend) {
  return tenant_failure(absl::ErrnoToStatusCode(-answer), what, why, mend);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Monitor>> Monitor::connect(const ClientConfig& config) {
  const absl::StatusOr<std::shared_ptr<Mount>> configured = Mount::make(config);
  if (!configured.ok()) {
    return absl::Status(
        configured.status().code(),
        fmt::format("ceph-tenant: {} (name the cluster's ceph.conf by --conf FILE or in CEPH_CONF, "
                    "and a keyring that can be read by --key FILE)",
                    reason_of(configured.status())));
  }
  std::unique_ptr<Monitor> monitor(new Monitor(config.client));
  int answer =
      rados_create_with_context(&monitor->cluster_, ceph_get_mount_context((*configured)->info()));
  if (answer >= 0) {
    answer = rados_conf_set(monitor->cluster_, "rados_mon_op_timeout", kCommandTimeout);
  }
  if (answer >= 0) answer = rados_connect(monitor->cluster_);
  if (answer < 0) {
    return failed(answer, monitor->who() + ": connecting", std::strerror(-answer),
                  answer == -ETIMEDOUT
                      ? "no monitor answers: is the cluster up?"
                      : "is its key in the keyring that ceph.conf names? name another file by "
                        "--key, or another client by --client");
  }
  return monitor;
}

Monitor::~Monitor() {
  if (cluster_ != nullptr) rados_shutdown(cluster_);
}

absl::StatusOr<json> Monitor::ask(json command) const {
  command["format"] = "json";
  const std::string prefix = command.at("prefix");
  const std::string text = command.dump();
  const char* words[] = {text.c_str()};
  char* answer = nullptr;
  char* said = nullptr;
  std::size_t answer_size = 0;
  std::size_t said_size = 0;
  const int status =
      rados_mon_command(cluster_, words, 1, nullptr, 0, &answer, &answer_size, &said, &said_size);
  const std::string got(answer != nullptr ? answer : "", answer_size);
  const std::string why(said != nullptr ? said : "", said_size);
  rados_buffer_free(answer);
  rados_buffer_free(said);
  if (status < 0) {
    const bool forbidden = status == -EACCES || status == -EPERM;
    return failed(status, fmt::format("{}: '{}'", who(), prefix),
                  why.empty() || forbidden ? std::strerror(-status) : why,
                  forbidden ? "by --client and --key name one who may do all: mon 'allow *', mds "
                              "'allow *'"
                  : status == -ETIMEDOUT ? "no monitor answers: is the cluster up?"
                                         : "mend that and do it again");
  }
  if (got.find_first_not_of(" \n") == std::string::npos) return json();
  json parsed = json::parse(got, nullptr, false);
  if (parsed.is_discarded()) {
    return tenant_failure(absl::StatusCode::kDataLoss, fmt::format("'{}'", prefix),
                          "the monitor's answer is no JSON", "is it Ceph 16 or newer?");
  }
  return parsed;
}

}  // namespace libservices::ceph_internal
