// SPDX-License-Identifier: Apache-2.0
#include "tests/differential/remote_subject.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace libservices::testing {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Operation, call, caller, umask, slot, base, other_slot, itself,
                                   follow, path, other_path, flags, mode, uid, gid, offset,
                                   other_offset, length, data)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Outcome, error, value, text, device, inode, listed)

namespace {

using nlohmann::json;
using Bytes = std::vector<std::uint8_t>;

// Its size, then CBOR, which takes strings of any bytes.
template <class T>
Bytes encoded(const T& value) {
  const Bytes body = json::to_cbor(json(value));
  const std::uint64_t size = body.size();
  Bytes message(sizeof size + body.size());
  __builtin_memcpy(message.data(), &size, sizeof size);
  __builtin_memcpy(message.data() + sizeof size, body.data(), body.size());
  return message;
}

std::vector<std::string> command(std::vector<std::string> before, const std::string& directory) {
  before.push_back(built_program("tests/differential/call_maker"));
  before.push_back(directory);
  return before;
}

}  // namespace

RemoteSubject::RemoteSubject(std::vector<std::string> before, const std::string& directory)
    : process_(command(std::move(before), directory)) {}

RemoteSubject::~RemoteSubject() = default;

Outcome RemoteSubject::apply(const Operation& op) {
  const Bytes message = encoded(op);
  std::uint64_t size = 0;
  Bytes body;
  if (process_.send(message.data(), message.size()) && process_.receive(&size, sizeof size)) {
    body.resize(size);
    if (process_.receive(body.data(), body.size())) return json::from_cbor(body).get<Outcome>();
  }
  throw std::runtime_error("call_maker has ended at: " + describe(op));
}

void answer_calls(Subject& subject, int from, int to) {
  std::uint64_t size = 0;
  while (receive_all(from, &size, sizeof size)) {
    Bytes body(size);
    if (!receive_all(from, body.data(), body.size())) return;
    const Bytes answer = encoded(subject.apply(json::from_cbor(body).get<Operation>()));
    if (!send_all(to, answer.data(), answer.size())) return;
  }
}

}  // namespace libservices::testing
