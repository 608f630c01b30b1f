// SPDX-License-Identifier: Apache-2.0
//
// Answers out of files, with a pipe in the device's place.
#include "src/fuse/pipe.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace libservices::fuse {
namespace {

using host::Descriptor;

class Fixture {
 public:
  Fixture() : file_(::memfd_create("file", MFD_CLOEXEC)), room_(kPayloadRoom) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    read_end_ = Descriptor(ends[0]);
    write_end_ = Descriptor(ends[1]);
    REQUIRE(::fcntl(ends[0], F_SETPIPE_SZ, 1 << 20) == 1 << 20);
    std::mt19937 random(1);
    content_.resize(300001);
    for (char& byte : content_) byte = static_cast<char>(random());
    REQUIRE(::write(file_.get(), content_.data(), content_.size()) ==
            static_cast<ssize_t>(content_.size()));
  }

  Result<bool> answer(int file, std::uint64_t offset, std::size_t length) {
    return pipe_.answer(write_end_.get(), 42, {file, offset, length}, room_,
                        [] { return true; });
  }
  // What came of the file, with a right header before it.
  std::string arrived() {
    std::string bytes(1 << 20, '\0');
    std::size_t count = 0;
    ssize_t more = 0;
    while ((more = ::read(read_end_.get(), bytes.data() + count, bytes.size() - count)) > 0) {
      count += static_cast<std::size_t>(more);
    }
    fuse_out_header header{};
    REQUIRE(count >= sizeof header);
    std::memcpy(&header, bytes.data(), sizeof header);
    CHECK(header.len == count);
    CHECK(header.error == 0);
    CHECK(header.unique == 42);
    return bytes.substr(sizeof header, count - sizeof header);
  }

  int file() const { return file_.get(); }
  const std::string& content() const { return content_; }
  Pipe& pipe() { return pipe_; }

 private:
  const Descriptor file_;
  std::vector<std::byte> room_;
  Descriptor read_end_;
  Descriptor write_end_;
  std::string content_;
  Pipe pipe_;
};

TEST_CASE("an answer has the bytes of the file, as many as there are") {
  Fixture fixture;
  REQUIRE(fixture.pipe().most() >= 131072);
  for (const std::uint64_t offset : {0, 4096, 100, 299000, 300000, 300001, 400000}) {
    for (const std::size_t length : {1, 4096, 5000, 131072}) {
      CAPTURE(offset);
      CAPTURE(length);
      const auto taken = fixture.answer(fixture.file(), offset, length);
      REQUIRE(taken.ok());
      CHECK(*taken);
      const std::string expected =
          offset < fixture.content().size() ? fixture.content().substr(offset, length) : "";
      CHECK(fixture.arrived() == expected);
    }
  }
}

TEST_CASE("what cannot be read is told, and the next answer is right") {
  Fixture fixture;
  REQUIRE(fixture.pipe().most() >= 131072);
  const Descriptor directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(!fixture.answer(directory.get(), 0, 4096).ok());
  REQUIRE(::ftruncate(fixture.file(), 8 << 20) == 0);
  const auto too_long = fixture.answer(fixture.file(), 0, 4 << 20);
  REQUIRE(!too_long.ok());
  CHECK(too_long.error() == Errno{EAGAIN});
  REQUIRE(fixture.answer(fixture.file(), 0, 70000).ok());
  CHECK(fixture.arrived() == fixture.content().substr(0, 70000));
}

TEST_CASE("an answer that is not taken leaves nothing for the next one") {
  Fixture fixture;
  REQUIRE(fixture.pipe().most() >= 131072);
  const Descriptor closed(::open("/dev/full", O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> room(kPayloadRoom);
  const auto taken = fixture.pipe().answer(closed.get(), 42, {fixture.file(), 0, 70000}, room,
                                           [] { return true; });
  CHECK((!taken.ok() || !*taken));
  REQUIRE(fixture.answer(fixture.file(), 4096, 70000).ok());
  CHECK(fixture.arrived() == fixture.content().substr(4096, 70000));
}

}  // namespace
}  // namespace libservices::fuse
