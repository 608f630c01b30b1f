// SPDX-License-Identifier: Apache-2.0
//
// A service without transport, in the test's own process: the dispatcher with sessions and
// placeholders over one filesystem in memory, and requests as a filesystem library would write
// them.
#ifndef LIBSERVICES_TESTS_HOST_IN_PROCESS_H_
#define LIBSERVICES_TESTS_HOST_IN_PROCESS_H_

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "src/host/dispatcher.h"
#include "src/host/placeholders.h"
#include "src/host/sessions.h"

namespace libservices::host {

class InProcessService {
 public:
  explicit InProcessService(SessionLimits limits = {})
      : directory_(make_directory()),
        kept_files(directory_),
        placeholders(directory_ + "/placeholders"),
        objects(directory_ + "/objects"),
        watches(filesystems, directory_ + "/watched", {.between_sweeps = {}}),
        sessions(filesystems, placeholders, kept_files, objects, watches, errands, limits),
        dispatcher(filesystems, placeholders, kept_files, objects, watches) {
    for (int i = 0; i < 2; ++i) {
      auto filesystem = std::make_unique<FilesystemOf<Memory>>(Memory::Config{});
      filesystems.push_back({"/mnt/" + std::to_string(i), "memory", std::move(filesystem)});
    }
    REQUIRE(watches.start().ok());
    for (Instance& instance : filesystems) REQUIRE(instance.filesystem->start().ok());
    REQUIRE(placeholders.start().ok());
    REQUIRE(kept_files.start().ok());
    REQUIRE(objects.start().ok());
    REQUIRE(sessions.start().ok());
  }
  ~InProcessService() {
    for (const auto& entry : sessions.list()) sessions.close(entry.session);
    placeholders.release_all();
    watches.stop();
    for (Instance& instance : filesystems) (void)instance.filesystem->stop();
    std::filesystem::remove_all(directory_);
  }

  std::string watched_path() const { return directory_ + "/watched"; }
  std::string objects_path() const { return directory_ + "/objects"; }
  std::uint64_t open_files() const { return filesystems[0].filesystem->counters().open_files; }

  // Waits for the kernel's word that descriptors are gone, and does what the service then does.
  // False when none comes within ten seconds.
  bool collect() {
    pollfd news{placeholders.news(), POLLIN, 0};
    if (::poll(&news, 1, 10'000) != 1) return false;
    for (const ServiceOpenFilePtr& file : placeholders.collect()) end_everywhere(file);
    return true;
  }

 private:
  static std::string make_directory() {
    char name[] = "/tmp/libservices-host-test.XXXXXX";
    return ::mkdtemp(name);
  }

  const std::string directory_;

 public:
  FilesystemTable filesystems;
  KeptFiles kept_files;
  Placeholders placeholders;
  KernelObjects objects;
  Watches watches;
  Errands errands;
  Sessions sessions;
  Dispatcher dispatcher;
};

// A descriptor of a directory that was given away: the superuser comes by it to no other place.
inline void check_leads_nowhere(Descriptor directory) {
  REQUIRE(directory.ok());
  if (::geteuid() != 0) {
    MESSAGE("SKIPPED: only root may make mounts");
    return;
  }
  struct stat root {};
  REQUIRE(::stat("/", &root) == 0);
  struct stat here {};
  REQUIRE(::fstat(directory.get(), &here) == 0);
  for (int up = 0; up < 20; ++up) {
    directory = Descriptor(::openat(directory.get(), "..", O_PATH | O_CLOEXEC));
    REQUIRE(directory.ok());
    REQUIRE(::fstat(directory.get(), &here) == 0);
    CHECK((here.st_dev != root.st_dev || here.st_ino != root.st_ino));
  }
  // It has stayed below what was given.
  const Descriptor up(::openat(directory.get(), "..", O_PATH | O_CLOEXEC));
  struct stat above {};
  REQUIRE(::fstat(up.get(), &above) == 0);
  CHECK(above.st_ino == here.st_ino);
}

// A connected process: its session and its stock of placeholders.
class InProcessClient {
 public:
  InProcessClient(InProcessService& service, uid_t uid, gid_t gid = 100,
                  std::vector<gid_t> groups = {})
      : service_(service), buffer_((1 << 20) + 8192) {
    auto opened = service.sessions.open({::getpid(), uid, gid, std::move(groups)});
    REQUIRE(opened.ok());
    session_ = *opened;
    welcome = service.sessions.welcome(*session_, stock);
  }
  ~InProcessClient() { disconnect(); }

  void disconnect() {
    if (session_ != nullptr) service_.sessions.close(session_);
    session_ = nullptr;
  }
  ClientSession& session() { return *session_; }

  // One request: its words, then input bytes. The answer's output stands in output().
  template <class Words>
  Answer call(protocol::Operation operation, const Words& words, std::string_view input = {},
              std::uint32_t instance = 0) {
    Call call;
    call.operation = operation;
    call.instance = instance;
    static_assert(sizeof words <= sizeof call.words);
    std::memcpy(call.words.data(), &words, sizeof words);
    if (!input.empty()) std::memcpy(buffer_.data(), input.data(), input.size());
    call.input = std::span(buffer_).first(input.size());
    call.output = buffer_;
    Answer answer;
    service_.dispatcher.run(*session_, call, answer);
    output_ = {reinterpret_cast<const char*>(buffer_.data()), answer.output_bytes};
    return answer;
  }
  std::string_view output() const { return output_; }

  static protocol::Target target(std::string_view path, protocol::Handle base = protocol::kRoot,
                                 std::uint32_t flags = protocol::Target::kFollow) {
    return {base, flags, static_cast<std::uint32_t>(path.size())};
  }

  // 0 on failure.
  protocol::Handle open(std::string_view path, int flags, std::uint32_t mode = 0644,
                        protocol::Placeholder placeholder = protocol::kNone) {
    const Answer answer = call(protocol::Operation::kOpen,
                               protocol::OpenRequest{.target = target(path),
                                                     .flags = static_cast<std::uint32_t>(flags),
                                                     .mode = static_cast<std::uint16_t>(mode),
                                                     .placeholder = placeholder},
                               path);
    error = answer.error;
    if (answer.error != 0) return 0;
    protocol::OpenAnswer opened;
    std::memcpy(static_cast<void*>(&opened), answer.words.data(), sizeof opened);
    return opened.handle;
  }
  int close(protocol::Handle handle, bool exclusive = false) {
    return call(protocol::Operation::kClose, protocol::CloseRequest{handle, exclusive ? 1U : 0U})
        .error;
  }
  int write(protocol::Handle handle, std::string_view text,
            std::uint64_t offset = protocol::kCurrentOffset) {
    return call(protocol::Operation::kWrite, protocol::WriteRequest{handle, offset}, text).error;
  }
  std::string read(protocol::Handle handle, std::uint64_t offset = protocol::kCurrentOffset) {
    error = call(protocol::Operation::kRead, protocol::ReadRequest{handle, offset, 65536}).error;
    return std::string(output_);
  }
  int mkdir(std::string_view path, std::uint32_t mode = 0755) {
    return call(protocol::Operation::kMkdir,
                protocol::MknodRequest{.target = target(path), .mode = mode}, path)
        .error;
  }

  // What a message on the socket is answered with; `descriptors` travel with it.
  protocol::SocketAnswer ask(protocol::SocketRequestType type, std::uint32_t count,
                             const std::vector<int>& descriptors = {}, bool directories = false) {
    protocol::SocketRequest request{type, count, directories ? 1U : 0U, 0};
    protocol::SocketAnswer answer;
    understood = service_.sessions.message(*session_, std::as_bytes(std::span(&request, 1)),
                                           descriptors, answer, stock);
    return answer;
  }

  // A placeholder for a working directory.
  protocol::Placeholder for_directory() {
    return ask(protocol::SocketRequestType::kStock, 1, {}, true).stock[0].id;
  }

  protocol::Welcome welcome;
  std::vector<Descriptor> stock;
  int error = 0;
  bool understood = false;

 private:
  InProcessService& service_;
  std::shared_ptr<ClientSession> session_;
  std::vector<std::byte> buffer_;
  std::string_view output_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_TESTS_HOST_IN_PROCESS_H_
