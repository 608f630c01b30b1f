#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs measurements beside their peers in one run, prints rows, and writes bench/results/NAME.json.

usage: tools/bench [OPTION]... [NAME]...

  calls      single file calls on union(local, local), beside kernel overlayfs and fuse-overlayfs
  fuse       the calls of `calls` through our mount at the kernel, beside kernel overlayfs and what else
             mounts unions through FUSE: fuse-overlayfs, unionfs-fuse, mergerfs
  programs   untar, grep -r, find, diff -r on the same, beside those and unionfs-fuse
  union      changes of what lower layers hold, large listings, lookups through 1 to 500 layers: each
             with an empty upper, on tmpfs and ext4; --only append (tree, move, list, lookup) for some of it
  ceph       files in CephFS on a cluster of its own, beside ceph-fuse and unionfs-fuse over it, and libcephfs
             itself; --only calls (content, programs, pools, threads) for some of it
  start      64 copies of lighttpd, each chrooted in a union, through our mount and others, until all have answered
  ipc        an empty request, beside a pipe, a Unix socket, an eventfd and a FUSE getattr
  preload    a program's start under `run`, and calls on what is the kernel's, beside the same without the library
  stack      1 to 8 pass-through layers composed at compile time, beside virtual calls (no root needed)
  NAME       any other program //bench:NAME that prints rows as JSON, as bench/README.md says

`calls`, `fuse`, `programs`, `union`, `ceph` and `start` mount what they measure, in a mount namespace of their own, so that nothing
stays mounted whatever happens. The first two make a tmpfs with a lower tree and one upper directory for each
system. Systems take turns in each round, and a
figure is the median of the rounds. `plain` is the tmpfs itself. A ratio is the peer's time over ours: above 1, ours is faster.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import random
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
STANDARD = ["stack", "calls", "programs"]
# And the programs of each.
MOUNTING = {"calls": ["calls"], "fuse": ["calls"], "programs": ["calls"], "union": ["trees"], "start": ["start"],
            "ceph": ["calls", "trees", "cephfs"]}
PROGRAMS = "LIBSERVICES_BENCH_PROGRAMS"  # set once they are built, and in the mount namespace if one is needed
OURS = "libservices"
OURS_MOUNT = "/mnt/libservices-bench"  # must not exist: only programs under the preload library see it

# How many times faster than kernel overlayfs, client and service on two cores, with requests alone.
GOALS = {
    "stat": 4, "stat-missing-new": 4, "open+close": 2.5, "readdir1000+stat": 6, "read4K": 1, "read1M": 1,
    "write4K": 2, "create+unlink": 0.8, "grep -r": 1.2, "find": 1.2, "diff -r": 1.2, "untar": 0.8,
}

# The same through the mount: what the kernel has in its cache.
FUSE_GOALS = {"read4K": 0.9, "read1M": 0.9, "mmap1M": 0.9}

# A client that says nothing for so long is stuck; the slowest step, fuse-overlayfs listing a million names, takes a minute.
SILENCE_SECONDS = 300


class Failure(Exception):
    pass


def say(text):
    print(text, flush=True)


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
                          cwd=ROOT).stdout.strip()


# ---- building and recording


def build(names):
    """Builds what `names` need and puts the directory of the programs into the environment.

    It happens before there is a mount namespace: a Bazel server that is started here outlives this run.
    """
    targets = {f"//bench:{program}" for name in names for program in MOUNTING.get(name, [name])}
    if (MOUNTING.keys() | {"preload"}) & set(names):
        targets |= {"//src/cli:libservices", "//src/preload:libservices-preload.so"}
    if "ceph" in names:
        targets.add("//src/host:libservices-ceph.so")
    command = ["bazel", "build", "--config=opt", "--ui_event_filters=-info", *sorted(targets)]
    say("building " + " ".join(sorted(targets)))
    if subprocess.run(command, stdin=subprocess.DEVNULL, cwd=ROOT, check=False).returncode != 0:
        raise Failure("the build failed")
    os.environ[PROGRAMS] = output_of("bazel", "info", "--config=opt", "bazel-bin")


def built(path):
    return pathlib.Path(os.environ[PROGRAMS]) / path


def circumstances():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                if line.startswith("model name")), platform.machine())
    return {
        "commit": output_of("git", "rev-parse", "HEAD"),
        "uncommitted_changes": bool(output_of("git", "status", "--porcelain", "--untracked-files=no")),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "compiler": output_of("g++", "--version").splitlines()[0],
        "load_average": os.getloadavg()[0],
    }


def record(name, rows, settings):
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"benchmark": name, **circumstances(), "settings": settings, "rows": rows}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    say(f"written: {path.relative_to(ROOT)}\n")


def duration(nanoseconds):
    for unit, size in (("s ", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def figure(value, unit):
    if value is None:
        return "-"
    return duration(value) if unit == "ns" else f"{value:.3g} {unit}".rstrip()


def ratio_of(row, theirs):
    """How many times better than a peer: above 1, ours is faster."""
    ours = row["ours"]
    if not ours or not theirs:
        return "-"
    return f"{(ours / theirs if row.get('better') == 'higher' else theirs / ours):.2f}"


def print_rows(title, rows):
    """Rows: name, unit, ours and peers {name: value}, None for what could not be measured.

    The unit is nanoseconds if none is named; "better": "higher" marks rates. A "goal" is a ratio to
    overlayfs, "goals" are {peer: ratio}; "at_most" is one to ours itself. "extrapolated" are {peer: times}.
    """
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers"]))
    wide = max([18, *(len(row["name"]) + 1 for row in rows)])
    say(f"\n{title}")
    header = f"{'':{wide}}{'ours':>10}"
    for peer in peers:
        header += f"{peer:>16}{'ratio':>7}"
    say(header)
    for row in rows:
        unit = row.get("unit", "ns")
        line = f"{row['name']:{wide}}{figure(row['ours'], unit):>10}"
        for peer in peers:
            theirs = row["peers"].get(peer)
            mark = "~" if peer in row.get("extrapolated", {}) else ""
            line += f"{mark + figure(theirs, unit):>16}{ratio_of(row, theirs):>7}"
        for peer, goal in (row.get("goals") or {"overlayfs": row.get("goal")}).items():
            if goal and row["ours"] and row["peers"].get(peer):
                reached = row["peers"][peer] / row["ours"] >= goal
                of = f" of {peer}" if row.get("goals") else ""
                line += f"   goal {goal}{of} {'reached' if reached else 'missed'}"
        if row.get("at_most") and row["ours"]:
            line += f"   at most {row['at_most']}: {'reached' if row['ours'] <= row['at_most'] else 'missed'}"
        say(line)


# ---- the systems that are measured


class Client:
    """A program that takes lines and answers with lines."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.unread = b""

    def tell(self, line):
        try:
            os.write(self.process.stdin.fileno(), line.encode() + b"\n")
        except BrokenPipeError:
            raise Failure(f"its client ended with status {self.process.wait()}") from None

    def hear(self):
        while b"\n" not in self.unread:
            if not select.select([self.process.stdout], [], [], SILENCE_SECONDS)[0]:
                raise Failure(f"no answer for {SILENCE_SECONDS} s")
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                raise Failure(f"its client ended with status {self.process.wait()}")
            self.unread += more
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


class System:
    """A union of `lowers` and an upper directory of its own, mounted at `self.at`. Its processes run on `cpus`."""

    name = ""

    def __init__(self, base, lowers, cpus):
        self.lowers, self.cpus = lowers, cpus
        self.home = base / self.name
        self.upper, self.work, self.at = self.home / "upper", self.home / "work", self.home / "at"
        for directory in (self.upper, self.work, self.at):
            directory.mkdir(parents=True)
        self.daemon = None
        self.clients = []

    def joined_lowers(self):
        return ":".join(map(str, self.lowers))

    def on_cpus(self, command):
        return ["taskset", "-c", self.cpus, *map(str, command)]

    def start(self):
        raise NotImplementedError

    def client(self, command):
        """Starts a program that works on the union."""
        client = Client(self.on_cpus(self.enter() + command), self.environment())
        self.clients.append(client)
        return client

    def enter(self):
        return []

    def environment(self):
        return {**os.environ, "LC_ALL": "C"}

    def stop(self):
        try:
            for client in self.clients:
                client.stop()
            self.clients = []
            if os.path.ismount(self.at):
                subprocess.run(["umount", str(self.at)], check=False)
                if os.path.ismount(self.at):
                    subprocess.run(["umount", "-l", str(self.at)], check=False)
            if self.daemon is not None:
                self.daemon.wait(10)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when a signal ends this run
            if self.daemon is not None:
                self.daemon.kill()
                self.daemon.wait()
                self.daemon = None


class Plain(System):
    name = "plain"

    def start(self):
        # The lower tree itself, which is on the same tmpfs; what the calls write goes beside it and is removed.
        subprocess.run(["cp", "-a", f"{self.lowers[0]}/.", str(self.at)], check=True)


class Overlayfs(System):
    name = "overlayfs"

    def start(self):
        options = f"lowerdir={self.joined_lowers()},upperdir={self.upper},workdir={self.work}"
        done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.at)],
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failure(done.stderr.strip() or "mount failed")


class Fuse(System):
    def command(self):
        raise NotImplementedError

    def start(self):
        command = self.command()
        if shutil.which(command[0]) is None:
            raise Failure(f"{command[0]} is not installed")
        if not os.path.exists("/dev/fuse"):
            raise Failure("there is no /dev/fuse")
        self.daemon = subprocess.Popen(self.on_cpus(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not os.path.ismount(self.at):
            if self.daemon.poll() is not None:
                raise Failure(f"{command[0]} ended with status {self.daemon.returncode}")
            if time.monotonic() > deadline:
                raise Failure(f"{command[0]} has not mounted within 10 s")
            time.sleep(0.02)


class FuseOverlayfs(Fuse):
    name = "fuse-overlayfs"

    def command(self):
        return ["fuse-overlayfs", "-f", "-o",
                f"allow_other,dev,suid,lowerdir={self.joined_lowers()},upperdir={self.upper},workdir={self.work}", self.at]


class UnionfsFuse(Fuse):
    name = "unionfs-fuse"

    def command(self):
        return ["unionfs", "-f", "-o", "cow,allow_other,use_ino,suid,dev", f"{self.upper}=RW:{self.lowers[0]}=RO",
                self.at]


class Mergerfs(Fuse):
    name = "mergerfs"

    def command(self):
        return ["mergerfs", "-f", "-o", "allow_other,cache.files=auto-full,category.create=ff",
                f"{self.upper}=RW:{self.lowers[0]}=RO", self.at]


class OursMounted(Fuse):
    """The service's mount at the kernel; its clients are not preloaded."""

    name = OURS
    options = []

    def command(self):
        branches = ", ".join(f"local:{branch}" for branch in (self.upper, *self.lowers))
        return [built("src/cli/libservices"), "serve", "--fuse", *self.options, "--run-directory", self.home / "run",
                "--mount", f"{self.at}=union({branches})"]


class OursOverDevice(OursMounted):
    """The same where the kernel has no requests over io_uring."""

    name = "over-device"
    options = ["-o", "noio_uring"]


class Ours(System):
    name = OURS

    def start(self):
        self.at.rmdir()
        self.at = pathlib.Path(OURS_MOUNT)
        if self.at.exists():
            raise Failure(f"{self.at} exists; it must not, so that a call that goes past the library fails")

    def enter(self):
        branches = ", ".join(f"local:{branch}" for branch in (self.upper, *self.lowers))
        return [str(built("src/cli/libservices")), "with", "--mount", f"{self.at}=union({branches})", "--"]

    def environment(self):
        return {**super().environment(), "LIBSERVICES_PRELOAD": str(built("src/preload/libservices-preload.so"))}

    def stop(self):
        self.at = self.home / "at"
        super().stop()


class Measurement:
    """Starts the systems, gives them rounds in turn, collects samples; a system that fails is left out and said."""

    def __init__(self, base, lower, kinds, cpus, command, goals):
        self.goals = goals
        self.systems, self.failures, self.samples = {}, {}, {}
        self.order = [kind.name for kind in kinds]
        for kind in kinds:
            system = kind(base, [lower], cpus)
            try:
                system.start()
                self.systems[system.name] = (system, system.client(command(system)))
            except (Failure, OSError) as failure:
                self.give_up(system, failure)

    def give_up(self, system, failure):
        say(f"libservices: bench: {system.name} is left out: {failure}")
        self.failures[system.name] = str(failure)
        self.systems.pop(system.name, None)
        for client in system.clients:
            client.process.terminate()
        system.stop()

    def run(self, rounds, one_round):
        """one_round(system, client) returns {name: nanoseconds}. The first round only warms up."""
        for number in range(rounds + 1):
            turn = list(self.systems.values())
            random.shuffle(turn)
            for system, client in turn:
                try:
                    values = one_round(system, client)
                except (Failure, OSError, ValueError) as failure:
                    self.give_up(system, failure)
                    continue
                if number > 0:
                    for name, value in values.items():
                        self.samples.setdefault(name, {}).setdefault(system.name, []).append(value)

    def stop(self):
        for system, _ in self.systems.values():
            system.stop()

    def rows(self, cores):
        rows = []
        for name, by_system in self.samples.items():
            medians = {system: statistics.median(by_system[system]) for system in self.order
                       if system in by_system and system not in self.failures}
            row = {"name": name, "cores": cores, "unit": "ns", "ours": medians.pop(OURS, None), "peers": medians,
                   "range": {system: [min(values), max(values)] for system, values in by_system.items()}}
            if cores == 2 and name in self.goals:
                row["goal"] = self.goals[name]
            rows.append(row)
        return rows


# ---- the trees


def make_calls_tree(lower):
    for directory in range(10):
        (lower / "d" / str(directory)).mkdir(parents=True)
        for file in range(100):
            (lower / "d" / str(directory) / str(file)).write_bytes(b"x" * 4096)
    (lower / "r1000").mkdir()
    for file in range(1000):
        (lower / "r1000" / f"entry-{file:04}").write_bytes(b"")
    with open(lower / "big", "wb") as big:
        for _ in range(64):
            big.write(os.urandom(1 << 20))


def make_programs_tree(lower, files, bytes_each=32 << 10):
    """Copies headers of the system: a tree of some thousands of small files; `b` differs from `a` in 100 of them."""
    chosen = []
    for directory, names, leaves in os.walk("/usr/include"):
        names.sort()
        for leaf in sorted(leaves):
            path = pathlib.Path(directory, leaf)
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= bytes_each:
                chosen.append(path)
    chosen = chosen[:files]
    for tree in ("a", "b"):
        for path in chosen:
            target = lower / tree / path.relative_to("/usr/include")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for path in chosen[:: max(1, len(chosen) // 100)]:
        with open(lower / "b" / path.relative_to("/usr/include"), "a", encoding="utf-8") as changed:
            changed.write("/* changed */\n")
    subprocess.run(["tar", "cf", str(lower.parent / "a.tar"), "-C", str(lower), "a"], check=True)
    return len(chosen)


# ---- the benchmarks


def cpus_of(cores):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < cores:
        raise Failure(f"this machine lets us have {len(allowed)} processors, not {cores}")
    return ",".join(map(str, allowed[:cores]))


def on_unions(name, options, make_tree, kinds, command, one_round, goals):
    base = pathlib.Path(tempfile.mkdtemp(prefix="libservices-bench."))
    rounds = options.rounds or 7
    failed, left_out, rows = False, {}, []
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70%,mode=755", "libservices-bench", str(base)], check=True)
        for cores in options.cores or [2, 1]:
            home = base / f"{cores}-cores"
            lower = home / "lower"
            lower.mkdir(parents=True)
            make_tree(lower)
            measurement = Measurement(home, lower, kinds, cpus_of(cores), command, goals)
            try:
                measurement.run(rounds, one_round)
            finally:
                measurement.stop()
            failed |= OURS in measurement.failures
            left_out |= measurement.failures
            some = measurement.rows(cores)
            plural = "s" if cores > 1 else ""
            print_rows(f"{name}, client and service on {cores} core{plural}, median of {rounds} rounds", some)
            rows += some
            shutil.rmtree(home, ignore_errors=True)
    finally:
        subprocess.run(["umount", "-l", str(base)], check=False)
        base.rmdir()
    record(name, rows, {"rounds": rounds, "milliseconds_per_call": options.ms, "files": options.files,
                        "left_out": left_out})
    return not failed


def bench_calls(options):
    return time_calls("calls", options, [Overlayfs, FuseOverlayfs, Plain, Ours], GOALS)


def bench_fuse(options):
    kinds = [Overlayfs, FuseOverlayfs, UnionfsFuse, Mergerfs, Plain, OursOverDevice, OursMounted]
    with fuse_over_io_uring():
        return time_calls("fuse", options, kinds, FUSE_GOALS)


@contextlib.contextmanager
def fuse_over_io_uring():
    """Has the kernel offer it to mounts, as administrators do, where it can."""
    switch = pathlib.Path("/sys/module/fuse/parameters/enable_uring")
    before = switch.read_text(encoding="ascii") if switch.exists() else None
    if before is not None:
        switch.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        if before is not None:
            switch.write_text(before, encoding="ascii")


def time_calls(name, options, kinds, goals):
    def command(system):
        return [str(built("bench/calls")), str(system.at), str(options.ms)]

    def one_round(_, client):
        client.tell("round")
        values = {}
        while (line := client.hear()) != "end":
            call, nanoseconds, _ = line.split()
            values[call] = float(nanoseconds)
        return values

    return on_unions(name, options, make_calls_tree, kinds, command, one_round, goals)


def bench_programs(options):
    expected = {}

    def run_in(client, text):
        """Has the shell of `client` run `text`; returns its output and how long it took."""
        start = time.monotonic_ns()
        client.tell(text + "; echo END $?")
        output = []
        while not (line := client.hear()).startswith("END "):
            output.append(line)
        taken = time.monotonic_ns() - start
        if line != "END 0":
            raise Failure(f"'{text}' ended with status {line[4:]}")
        return output, taken

    def one_round(system, client):
        at = system.at
        tar = system.home.parent / "a.tar"
        values = {}
        run_in(client, f"rm -rf {at}/out && mkdir {at}/out")
        for name, text in {
                "untar": f"tar xf {tar} -C {at}/out && find {at}/out -type f | wc -l",
                "grep -r": f"grep -r EINVAL {at}/a | wc -l",
                "find": f"find {at}/a -type f | wc -l",
                "find -size": f"find {at}/a -size +15 | wc -l",
                "diff -r": f"diff -r {at}/a {at}/b | grep -c '^diff'",
        }.items():
            if name == "untar":
                _, values[name] = run_in(client, text.split(" && ")[0])
                output, _ = run_in(client, text.split(" && ")[1])
            else:
                output, values[name] = run_in(client, text)
            if expected.setdefault(name, output) != output:
                raise Failure(f"'{text}' printed {output}, elsewhere {expected[name]}")
        return values

    return on_unions("programs", options, lambda lower: make_programs_tree(lower, options.files),
                     [Overlayfs, FuseOverlayfs, UnionfsFuse, Plain, Ours], lambda _: ["sh"], one_round, GOALS)


def bench_program(name, _):
    """A program that prints {"title", "settings", "rows"} as JSON."""
    done = subprocess.run([str(built(f"bench/{name}"))], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{name} ended with status {done.returncode}")
    document = json.loads(done.stdout)
    print_rows(document["title"], document["rows"])
    record(name, document["rows"], document.get("settings", {}))
    return True


def arguments():
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(STANDARD)}")
    parser.add_argument("--rounds", type=int, help="rounds that count, after one to warm up (7; of union 3)")
    parser.add_argument("--ms", type=int, default=60, help="milliseconds for each call and round (60)")
    parser.add_argument("--files", type=int, default=4000, help="files in the tree of `programs` (4000)")
    parser.add_argument("--cores", type=lambda text: [int(c) for c in text.split(",")],
                        help="numbers of cores to measure on (2,1; union: 2)")
    parser.add_argument("--only", action="append",
                        help="this part of `union` or `ceph`; may be repeated; results are not written")
    parser.add_argument("--nice", type=int, default=0, help="niceness of everything; -20 on a busy machine (0)")
    return parser.parse_args()


def main():
    options = arguments()
    names = options.names or STANDARD
    if options.nice:
        os.nice(options.nice)
    if PROGRAMS not in os.environ:
        mounting = MOUNTING.keys() & set(names)
        if mounting and os.geteuid() != 0:
            raise Failure(f"{' and '.join(sorted(mounting))} mount filesystems, which needs root (stack does not)")
        build(names)
        if mounting:
            os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    good = True
    for name in names:
        run = {"calls": bench_calls, "fuse": bench_fuse, "programs": bench_programs,
               "union": union_rows.bench, "start": start_rows.bench, "ceph": ceph_rows.bench}.get(name)
        good &= run(options) if run else bench_program(name, options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.modules["harness"] = sys.modules["__main__"]  # the other scripts use what is here
    import ceph_rows
    import start_rows
    import union_rows
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"libservices: bench: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
