// SPDX-License-Identifier: Apache-2.0
//
// Random scripts of calls on the kernel's tmpfs and in a CephFS: by one client, by two clients in
// turns, of which one may be mounted at the kernel, and in a union whose layers the script makes.
// LIBSERVICES_SEED and LIBSERVICES_SCRIPTS choose the first seed and how many follow it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libservices/testing/instance.h"
#include "services/ceph/ceph.h"
#include "services/union/union.h"
#include "tests/ceph/cluster.h"
#include "tests/differential/comparison.h"
#include "tests/differential/layers.h"
#include "tests/differential/script.h"
#include "tests/differential/seeds.h"
#include "tests/fuse/halves.h"
#include "tests/fuse/mapped_files.h"
#include "tests/fuse/mounted.h"

namespace libservices::testing {
namespace {

enum class Renames { kReplaceAlone, kAlsoNoReplace };

// What CephFS does not have (docs/semantics.md), and other tests see refused: exchanges of names,
// files without a name, and RENAME_NOREPLACE for who shares the directory. To reserve space changes
// nothing, the times neither.
std::vector<Operation> without_what_is_refused(std::vector<Operation> script, Renames renames) {
  for (Operation& op : script) {
    if (op.call == Call::kOpen && (op.flags & O_TMPFILE) == O_TMPFILE) op.flags &= ~O_TMPFILE;
    if (op.call == Call::kFallocate && op.flags == FALLOC_FL_KEEP_SIZE) op.call = Call::kStat;
    if (op.call != Call::kRename) continue;
    if (op.flags == 2 || (op.flags == 1 && renames == Renames::kReplaceAlone)) op.flags = 0;
  }
  return script;
}

void compare_scripts(const char* name, Renames renames, const WithFresh& kernel,
                     const WithFresh& stack, unsigned layers = 1) {
  if (const std::string why = why_kernel_cannot(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 5);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    std::vector<Operation> script =
        without_what_is_refused(make_script(seed, 400, what_kernel_has()), renames);
    for (unsigned layer = 1; layer < layers; ++layer) {
      Operation next;
      next.call = Call::kNextLayer;
      script.insert(script.begin() + static_cast<long>(script.size() * layer / layers), next);
    }
    const std::string found = difference(std::move(script), without_directory_links(kernel),
                                         without_directory_links(stack));
    CHECK_MESSAGE(found.empty(), name, ", LIBSERVICES_SEED=", seed, ": ", found);
    if (!found.empty()) return;
  }
}

void tmpfs_in_turns(const std::function<void(Subject&)>& work) {
  on_fresh_tmpfs([&](Subject& tmpfs) {
    WithoutBoth filtered(tmpfs);
    work(filtered);
  });
}

// The second client stays while its cases run: to leave takes a second.
struct SecondClient {
  SecondClient() : service(second_client_config("/")) { REQUIRE(service.start().ok()); }
  ~SecondClient() { CHECK(service.stop().ok()); }
  Ceph service;
};

TEST_CASE("one client answers every script as tmpfs does") {
  for (const bool exclusive : {false, true}) {
    compare_scripts(exclusive ? "exclusive ceph" : "ceph",
                    exclusive ? Renames::kAlsoNoReplace : Renames::kReplaceAlone, on_fresh_tmpfs,
                    [&](const std::function<void(Subject&)>& work) {
                      Ceph::Config config = cluster_config(fresh_directory());
                      config.exclusive = exclusive;
                      run_on<Ceph>(std::move(config), work);
                    });
  }
}

TEST_CASE("two clients see each other's changes at once") {
  const SecondClient second;
  compare_scripts("two clients", Renames::kReplaceAlone, tmpfs_in_turns,
                  [&](const std::function<void(Subject&)>& work) {
                    const std::string directory = fresh_directory();
                    Running<Ceph> one(cluster_config(directory));
                    Running<Ceph> other(second_client_config(directory));
                    Halves turns(*one.subject, *other.subject);
                    work(turns);
                  });
}

TEST_CASE("a mount at the kernel sees at once what another client has changed") {
  if (const std::string why = why_no_mounts(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const SecondClient second;
  compare_scripts("a mount and another client", Renames::kReplaceAlone, tmpfs_in_turns,
                  [&](const std::function<void(Subject&)>& work) {
                    const std::string directory = fresh_directory();
                    Running<Ceph> one(cluster_config(directory));
                    Running<Ceph> other(second_client_config(directory));
                    Mounted mounted(one.fs);
                    on_directory(mounted.path(), [&](Subject& mount) {
                      Halves turns(mount, *other.subject);
                      work(turns);
                    });
                  });
}

TEST_CASE("so does one that has mapped what the other client writes") {
  if (const std::string why = why_no_mounts(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const SecondClient second;
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 4);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    const std::string directory = fresh_directory();
    Running<Ceph> one(cluster_config(directory));
    Running<Ceph> other(second_client_config(directory));
    Mounted mounted(one.fs);
    const std::string wrong = MappedFiles(other.fs, mounted.path(), seed).run();
    CHECK_MESSAGE(wrong.empty(), "LIBSERVICES_SEED=", seed, ": ", wrong);
  }
}

// Where a union's upper cannot exchange names, a directory does not replace an empty one that was
// merged with a lower (docs/semantics.md). Who wants to removes that first.
class RemovesBeforeRename final : public Subject {
 public:
  explicit RemovesBeforeRename(Subject& subject) : subject_(subject) {}
  Outcome apply(const Operation& op) override {
    Outcome outcome = subject_.apply(op);
    if (op.call != Call::kRename || outcome.error != EXDEV) return outcome;
    Operation removal = op;
    removal.call = Call::kRmdir;
    removal.path = op.other_path;
    return subject_.apply(removal).error == 0 ? subject_.apply(op) : outcome;
  }

 private:
  Subject& subject_;
};

// A directory of that name beside `model`, with its owner, mode, times and attributes.
void make_like(const Ceph::Node& parent, const std::string& name, const std::string& model) {
  Ceph& ceph = cluster_root();
  const Context context;
  if (model.empty()) {
    must(ceph.mkdir(context, parent, name, {.mode = 0755}));
    return;
  }
  const auto old = must(ceph.lookup(context, parent, model));
  const Attributes& a = old.attributes;
  const auto made = must(
      ceph.mkdir(context, parent, name, {.mode = a.permissions(), .uid = a.uid, .gid = a.gid}));
  std::string names(1024, '\0');
  names.resize(must(ceph.listxattr(context, old.node, std::span(names))));
  for (std::string_view rest = names; !rest.empty();) {
    const std::string attribute(rest.substr(0, rest.find('\0')));
    rest.remove_prefix(attribute.size() + 1);
    std::string value(8192, '\0');
    value.resize(must(
        ceph.getxattr(context, old.node, attribute, std::as_writable_bytes(std::span(value)))));
    must(
        ceph.setxattr(context, made.node, attribute, bytes_of(value), XattrMode::kCreateOrReplace));
  }
  AttributeChanges times;
  times.which = AttributeChanges::kAtime | AttributeChanges::kMtime;
  times.atime = a.atime;
  times.mtime = a.mtime;
  must(ceph.setattr(context, made.node, times));
}

void layers_of_ceph(const std::function<void(Subject&)>& work) {
  const std::string all = fresh_directory();
  const Context context;
  const auto parent =
      must(cluster_root().lookup(context, must(cluster_root().root(context)).node, all.substr(1)))
          .node;
  const auto config_of = [&](int layer) {
    return cluster_config(all + "/" + std::to_string(layer));
  };
  std::optional<Running<Ceph>> lowest;
  std::optional<Running<Union<Ceph, Ceph>>> stacked;
  OnLayers subject([&](int layer) -> Subject& {
    lowest.reset();
    stacked.reset();
    make_like(parent, std::to_string(layer), layer == 0 ? "" : std::to_string(layer - 1));
    if (layer == 0) {
      Ceph::Config config = config_of(0);
      config.exclusive = true;
      lowest.emplace(std::move(config));
      return *lowest->subject;
    }
    Union<Ceph, Ceph>::Config config;
    config.upper = config_of(layer);
    config.upper.exclusive = true;
    for (int lower = layer - 1; lower >= 0; --lower) config.lowers.push_back(config_of(lower));
    config.range_bytes = 4096;  // so that files of the scripts are copied up in part
    stacked.emplace(std::move(config));
    return *stacked->subject;
  });
  RemovesBeforeRename renames(subject);
  work(renames);
}

TEST_CASE("a union over layers that hold files answers as tmpfs does") {
  compare_scripts("union over layers", Renames::kAlsoNoReplace, layers_on_tmpfs, layers_of_ceph,
                  OnLayers::kLayers);
}

}  // namespace
}  // namespace libservices::testing
