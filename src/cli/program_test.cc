// SPDX-License-Identifier: Apache-2.0
#include "src/cli/program.h"

#include <doctest/doctest.h>
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/support/scratch_directory.h"

namespace libservices::cli {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

class Directory {
 public:
  std::string operator/(std::string_view name) const {
    return scratch_.path() + '/' + std::string(name);
  }
  std::string file(std::string_view name, std::string_view text, mode_t mode) const {
    const std::string path = *this / name;
    std::ofstream(path, std::ios::binary) << text;
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    return path;
  }

 private:
  const testing::ScratchDirectory scratch_;
};

std::string elf_without_interpreter(Elf64_Half machine = EM_X86_64) {
  Elf64_Ehdr header{};
  for (int i = 0; i < SELFMAG; ++i) header.e_ident[i] = static_cast<unsigned char>(ELFMAG[i]);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_machine = machine;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr segment{};
  segment.p_type = PT_LOAD;
  std::string text(sizeof header + sizeof segment, '\0');
  std::memcpy(text.data(), &header, sizeof header);
  std::memcpy(text.data() + sizeof header, &segment, sizeof segment);
  return text;
}

TEST_CASE("a program is found in PATH and by its path") {
  const Program sh = find_program("sh");
  CHECK(sh.exit_status == 0);
  CHECK(sh.path.ends_with("/sh"));
  CHECK(find_program("/bin/sh").exit_status == 0);
}

TEST_CASE("a program that does not exist has status 127") {
  CHECK(find_program("no-such-program-here").exit_status == kNotFound);
  CHECK(contains(find_program("no-such-program-here").message, "no such program in PATH"));
  CHECK(find_program("/no/such/program").exit_status == kNotFound);
}

TEST_CASE("what is not executable has status 126") {
  const Directory directory;
  const Program plain = find_program(directory.file("plain", "#!/bin/sh\n", 0644));
  CHECK(plain.exit_status == kNotExecutable);
  CHECK(contains(plain.message, "not executable"));
  CHECK(find_program("/tmp/").exit_status == kNotExecutable);
}

TEST_CASE("a static program is refused with the reason") {
  const Directory directory;
  const Program program =
      find_program(directory.file("static", elf_without_interpreter(), 0755));
  CHECK(program.exit_status == kNotExecutable);
  CHECK(contains(program.message, "statically linked"));
}

TEST_CASE("a program for another machine is refused with the reason") {
  const Directory directory;
  const Program program =
      find_program(directory.file("other", elf_without_interpreter(EM_S390), 0755));
  CHECK(program.exit_status == kNotExecutable);
  CHECK(contains(program.message, "another machine"));
}

TEST_CASE("a set-user-id program is refused with the reason") {
  const Directory directory;
  const std::string path = directory / "suid";
  std::filesystem::copy_file("/bin/true", path);
  REQUIRE(::chmod(path.c_str(), 04755) == 0);
  CHECK(find_program(path).exit_status == kNotExecutable);
  CHECK(contains(find_program(path).message, "set-user-id"));
  REQUIRE(::chmod(path.c_str(), 02755) == 0);
  CHECK(contains(find_program(path).message, "set-group-id"));
}

TEST_CASE("a script is as good as its interpreter") {
  const Directory directory;
  CHECK(find_program(directory.file("good", "#! /bin/sh -e\n", 0755)).exit_status == 0);
  CHECK(find_program(directory.file("env", "#!/usr/bin/env sh\n", 0755)).exit_status == 0);
  CHECK(find_program(directory.file("none", "echo hello\n", 0755)).exit_status == 0);
  const Program missing = find_program(directory.file("missing", "#!/no/shell\n", 0755));
  CHECK(missing.exit_status == kNotExecutable);
  CHECK(contains(missing.message, "/no/shell: there is no such program"));
  directory.file("static", elf_without_interpreter(), 0755);
  const Program bad =
      find_program(directory.file("bad", "#!" + (directory / "static") + "\n", 0755));
  CHECK(contains(bad.message, "statically linked"));
  const Program endless =
      find_program(directory.file("endless", "#!" + (directory / "endless") + "\n", 0755));
  CHECK(contains(endless.message, "without end"));
}

}  // namespace
}  // namespace libservices::cli
