# SPDX-License-Identifier: Apache-2.0
"""`tools/bench ceph`: files in CephFS through our service, beside ceph-fuse and unionfs-fuse over it.

A cluster on loopback (tools/cluster), each system a client of it by itself. Without a union: ours (`ceph:`),
`F`, which is ceph-fuse without the kernel's page cache, and `FP`, with it, each with a directory of its own; and
`raw`, a program that is linked with libcephfs: what the cluster and its client library allow. With one: ours
(`union(ceph:, ceph:)`), and unionfs-fuse over F (`F/F`) and over FP (`FP/FP`), over one lower directory.

The parts: `calls`, `content`, `programs` (all systems), `pools`, `threads`.
"""

import contextlib
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from harness import (OURS, OURS_MOUNT, ROOT, Failure, Fuse, System, built, cpus_of, make_calls_tree, print_rows,
                     record, say)
from union_rows import ask

MIB = 1 << 20
ROUNDS = 5
PARTS = ("calls", "content", "programs", "pools", "threads")
CALLS = ("stat", "open+close", "read4K", "read1M", "create+unlink")
COLD_MIB = 8
WRITTEN_MIB = 32
APPENDED_TO = 64 * MIB
UNTARRED, UNTARRED_BYTES, UNTARRED_EACH = 5000, 2048, 100
PUTS, VALUE_BYTES = 1500, 128 << 10  # more than RocksDB keeps in memory until it writes a table
PROGRAM_ROUNDS = 3  # at most: they take the longest
POOLS = (1, 2, 4, 8)
POOL_CALLS = ("stat", "open+close", "read4K", "create+unlink")

# How many times faster than which peer.
GOALS = {
    "stat": {"F": 50}, "open+close": {"F": 50}, "read4K": {"F": 8, "FP": 1}, "untar": {"F": 1},
    "put": {"F": 1, "FP": 1}, "get": {"F": 1, "FP": 1},
}
UNION_GOALS = {
    "stat": {"F": 50}, "open+close": {"F": 50, "F/F": 200}, "read4K": {"F": 8, "FP": 1}, "append to 64 MiB": {"F/F": 100},
    "untar": {"F": 1, "F/F": 5}, "put": {"F": 1, "FP": 1, "F/F": 1, "FP/FP": 1},
    "get": {"F": 1, "FP": 1, "F/F": 1, "FP/FP": 1},
}


# ---- the systems. `home` is on a tmpfs; what they serve is in the CephFS.


class OursOnCeph(System):
    """A service, and programs under the preload library."""

    untars = 1  # of the files, as a fraction: the rest is extrapolated
    union = False

    def spec(self):
        return f"ceph:/{self.home.name}"

    def start(self):
        self.at.rmdir()
        self.at = pathlib.Path(OURS_MOUNT)
        if self.at.exists():
            raise Failure(f"{self.at} exists; it must not, so that a call that goes past the library fails")
        reader, writer = os.pipe()
        try:
            self.daemon = subprocess.Popen(
                self.on_cpus([built("src/cli/libservices"), "serve", "--run-directory", self.home / "run", "--ready", writer,
                              "--mount", f"{self.at}={self.spec()}"]),
                stdin=subprocess.DEVNULL, pass_fds=[writer], env=self.environment())
            os.close(writer)
            writer = None
            if os.read(reader, 1) != b"\n":
                raise Failure(f"the service ended with status {self.daemon.wait()}")
        finally:
            os.close(reader)
            if writer is not None:
                os.close(writer)

    def enter(self):
        return [str(built("src/cli/libservices")), "run", "--run-directory", str(self.home / "run"), "--"]

    def environment(self):
        return {**super().environment(), "LIBSERVICES_PRELOAD": str(built("src/preload/libservices-preload.so")),
                "LIBSERVICES_CEPH": str(built("src/host/libservices-ceph.so"))}

    def processes(self):
        return [self.daemon]

    def stop(self):
        self.at = self.home / "at"
        for client in self.clients:
            client.stop()
        self.clients = []
        if self.daemon is not None:
            self.daemon.terminate()
        super().stop()


class Ours(OursOnCeph):
    name = OURS


class OursAlone(OursOnCeph):
    """Nobody else changes the directory: the service remembers names and attributes."""

    name = "exclusive"

    def spec(self):
        return f"ceph:/{self.home.name}(exclusive=true)"


class OursUnion(OursOnCeph):
    name = OURS + "-union"
    union = True

    def spec(self):
        return f"union(ceph:/{self.home.name}, ceph:/image)"


class Maker(OursOnCeph):
    """Makes what all of them find."""

    name = "maker"

    def spec(self):
        return "ceph:/"


class CephFuse(Fuse):
    name = "F"
    root = None  # its own directory
    options = ["--fuse_disable_pagecache=true"]
    untars = 1 / 5
    union = False

    def command(self):
        return ["ceph-fuse", "-f", "-r", self.root or f"/{self.home.name}", *self.options, self.at]

    def processes(self):
        return [self.daemon]


class CachedCephFuse(CephFuse):
    name, options = "FP", []


class UnionOverFuse(Fuse):
    """unionfs-fuse over a ceph-fuse that has both branches."""

    name = "F/F"
    beneath_options, options = CephFuse.options, "cow,direct_io"
    untars = 1 / 20
    union = True

    def start(self):
        self.beneath = CephFuse(self.home / "beneath", self.lowers, self.cpus)
        self.beneath.root, self.beneath.options = "/", self.beneath_options
        self.beneath.start()
        super().start()

    def command(self):
        beneath = self.beneath.at
        return ["unionfs", "-f", "-o", self.options, f"{beneath}/{self.home.name}=RW:{beneath}/image=RO", self.at]

    def processes(self):
        return [self.daemon, self.beneath.daemon]

    def stop(self):
        try:
            super().stop()
        finally:
            if hasattr(self, "beneath"):
                self.beneath.stop()


class CachedUnionOverFuse(UnionOverFuse):
    name = "FP/FP"
    beneath_options, options = [], "cow,kernel_cache"


class Raw(System):
    name = "raw"
    untars = 1 / 5
    union = False

    def start(self):
        self.at = pathlib.Path("/") / self.home.name

    def processes(self):
        return [client.process for client in self.clients]


PLAIN = [Ours, OursAlone, CephFuse, CachedCephFuse, Raw]
UNIONS = [OursUnion, UnionOverFuse, CachedUnionOverFuse]


def home_of(base, kind, number=""):
    """Where a system lives, and, by the last name of it, the directory of the CephFS."""
    return base / (kind.name.replace("/", "-") + number)


def made(kind, base, cpus, number=""):
    system = kind(base, [], cpus)
    shutil.rmtree(system.home)
    system.home = home_of(base, kind, number)
    system.upper, system.work, system.at = (system.home / name for name in ("upper", "work", "at"))
    system.at.mkdir(parents=True)
    return system


# ---- the cluster and what is in it


@contextlib.contextmanager
def cluster(base):
    """Brings one up, and names it to all that is started."""
    directory = base / "cluster"
    tool = str(ROOT / "tools/cluster")
    done = subprocess.run([tool, "up", "--while", str(os.getpid()), str(directory)], check=False)
    if done.returncode != 0:
        raise Failure("there is no cluster to measure on")
    os.environ["CEPH_CONF"] = str(directory / "ceph.conf")
    try:
        yield
    finally:
        subprocess.run([tool, "down", str(directory)], check=False)


def stop_all(systems):
    """All of them, whatever one of them says."""
    for system in systems:
        if isinstance(system, OursOnCeph) and system.daemon is not None:
            system.daemon.terminate()  # each takes up to a second for its unmount
    with contextlib.ExitStack() as stack:
        for system in systems:
            stack.callback(system.stop)


def make_files(base, cpus, rounds, pools):
    """The trees of all systems in the CephFS: copies of one that is made on the tmpfs."""
    tree = base / "tree"
    make_calls_tree(tree)
    shutil.rmtree(tree / "r1000")
    for number in range(rounds + 1):
        for order in ("onwards", "random"):
            (tree / f"cold-{order}-{number}").write_bytes(os.urandom(COLD_MIB * MIB))
    appended = base / "appended"
    appended.mkdir()
    for number in range(rounds + 1):
        (appended / f"append-{number}").write_bytes(os.urandom(MIB) * (APPENDED_TO // MIB))
    maker = made(Maker, base, cpus)
    try:
        maker.start()
        client = maker.client([str(built("bench/trees")), str(maker.at)])
        for kind in PLAIN:
            ask(client, f"run cp -r {tree} {maker.at}/{home_of(base, kind).name}")
        ask(client, f"run cp -r {tree} {maker.at}/image && cp {appended}/* {maker.at}/image")
        ask(client, f"run mkdir {maker.at}/upper-of-threads")
        for kind in UNIONS:
            uppers = [home_of(base, kind).name, *(home_of(base, kind, f"-{number}").name for number in range(pools))]
            ask(client, f"run cd {maker.at} && mkdir {' '.join(uppers)}")
    finally:
        maker.stop()
    for directory in (tree, appended):
        shutil.rmtree(directory)


def make_archives(base):
    """One with all the files, and one for each share of them."""
    tree = base / "untarred"
    for number in range(UNTARRED):
        directory = tree / str(number // UNTARRED_EACH)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(os.urandom(UNTARRED_BYTES))
    for share in sorted({kind.untars for kind in PLAIN + UNIONS}):
        last = int(UNTARRED * share) // UNTARRED_EACH
        subprocess.run(["tar", "cf", str(base / f"{share}.tar"), "-C", str(tree), *map(str, range(last))], check=True)
    shutil.rmtree(tree)


# ---- what is measured: steps(system, number) yield (row, value)


def calls_of(client):
    client.tell("round")
    while (line := client.hear()) != "end":
        call, nanoseconds, *_ = line.split()
        yield call, float(nanoseconds)


def content_steps(system, number):
    trees, at = system.trees, system.at
    for row, order, count, size in (("read4K, cold", "random", 64, 4096), ("read1M, cold", "onwards", COLD_MIB, MIB)):
        yield row, ask(trees, f"read {at}/cold-{order}-{number} {count} {size} {order}")
    yield f"write {WRITTEN_MIB} MiB, fsync", ask(trees, f"write {at}/written-{number} {WRITTEN_MIB}")
    if system.union:
        yield "append to 64 MiB", ask(trees, f"append {at}/append-{number} {APPENDED_TO} ends")


def program_steps(system, number):
    trees, at, base = system.trees, system.at, system.home.parent
    to = f"{at}/untarred-{number}"
    if isinstance(system, Raw):
        taken = ask(trees, f"untar {to} {int(UNTARRED * system.untars)} {UNTARRED_BYTES}")
        yield "untar", taken / system.untars
        return
    ask(trees, f"run mkdir {to}")
    yield "untar", ask(trees, f"run tar xf {base}/{system.untars}.tar -C {to}") / system.untars
    said = system.home / "said"
    ask(trees, f"run db_bench --benchmarks=fillrandom,readrandom --num={PUTS} --key_size=9 --value_size={VALUE_BYTES} "
        f"--write_buffer_size=67108864 --compression_type=none --cache_size=8388608 --seed=1 --db={at}/db "
        f">{said} 2>&1")
    text = said.read_text(encoding="utf-8")
    for row, name in (("put", "fillrandom"), ("get", "readrandom")):
        found = re.search(rf"^{name}\s*:\s*([\d.]+) micros/op", text, re.MULTILINE)
        if found is None:
            raise Failure(f"db_bench said {text[-300:]}")
        yield row, float(found.group(1)) * 1000
    ask(trees, f"run rm -r {at}/db")


def resident_bytes(system):
    total = 0
    for process in system.processes():
        for line in open(f"/proc/{process.pid}/status", encoding="ascii"):
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) << 10
    return total


class Measurement:
    """The systems side by side, in turn in each round; one that fails is left out and said."""

    def __init__(self):
        self.systems, self.failures, self.samples = [], {}, {}

    def add(self, kind, base, cpus, milliseconds):
        system = made(kind, base, cpus)
        self.systems.append(system)
        try:
            system.start()
            if isinstance(system, Raw):
                system.trees = system.calls = system.client([str(built("bench/cephfs")), str(system.at), str(milliseconds)])
                return
            self.put("memory at first", system, resident_bytes(system) / MIB)
            system.trees = system.client([str(built("bench/trees")), str(system.at)])
            # All that is cached is.
            ask(system.trees, f"run cat {system.at}/d/*/* {system.at}/big >/dev/null")
            system.calls = system.client([str(built("bench/calls")), str(system.at), str(milliseconds), *CALLS])
        except (Failure, OSError) as failure:
            self.give_up(system, failure)

    def give_up(self, system, failure):
        say(f"libservices: bench: {system.name} is left out: {failure}")
        self.failures[system.name] = str(failure)
        self.systems.remove(system)
        system.stop()

    def put(self, row, system, value):
        self.samples.setdefault((system.union, row), {}).setdefault(system.name, []).append(value)

    def rounds(self, count, steps):
        """The first one only warms up."""
        for number in range(count + 1):
            for system in random.sample(self.systems, len(self.systems)):
                try:
                    for row, value in steps(system, number):
                        if number > 0:
                            self.put(row, system, value)
                except (Failure, OSError) as failure:
                    self.give_up(system, failure)

    def stop(self):
        stop_all(self.systems)
        self.systems = []

    def rows(self, union):
        ours = (OursUnion if union else Ours).name
        goals = UNION_GOALS if union else GOALS
        untars = {kind.name: kind.untars for kind in PLAIN + UNIONS}
        rows = []
        for (of_union, name), by_system in self.samples.items():
            if of_union != union:
                continue
            values = dict(by_system)
            if union:  # what the peers of a directory alone do is beside it
                values.update({peer: of for peer, of in self.samples.get((False, name), {}).items() if peer in ("F", "FP")})
            medians = {system: statistics.median(of) for system, of in values.items() if system not in self.failures}
            row = {"name": name, "cores": 2, "unit": "MiB" if name.startswith("memory") else "ns",
                   "ours": medians.pop(ours, None), "peers": medians,
                   "range": {system: [min(of), max(of)] for system, of in values.items()}}
            if name in goals:
                row["goals"] = goals[name]
            if name == "untar":
                row["extrapolated"] = {peer: round(1 / untars[peer]) for peer in medians if untars[peer] < 1}
            rows.append(row)
        return rows


# ---- pools and threads


def start_pools(kind, base, cpus, milliseconds, systems):
    """As many as there are at most, each with a program that has read all that it will use."""
    for number in range(max(POOLS)):
        system = made(kind, base, cpus, f"-{number}")
        systems.append(system)
        system.start()
        system.client([str(built("bench/trees")), str(system.at)])
    for system in systems:
        system.clients[0].tell(f"run cat {system.at}/d/*/* {system.at}/big >/dev/null")
    for system in systems:
        if system.clients[0].hear().startswith("failed"):
            raise Failure("not all files can be read")
        system.clients.pop().stop()
        system.client([str(built("bench/calls")), str(system.at), str(milliseconds), *POOL_CALLS])


def pool_rows(base, cpus, milliseconds, rounds):
    """One to eight tenants at once, each with a service, or daemons, and a program that works."""
    samples, systems = {}, {}
    try:
        for kind in UNIONS:
            systems[kind.name] = some = []
            try:
                start_pools(kind, base, cpus, milliseconds, some)
            except (Failure, OSError) as failure:
                say(f"libservices: bench: {kind.name} is left out of the pools: {failure}")
                stop_all(some)
                some.clear()
        kinds = [kind for kind in UNIONS if systems[kind.name]]
        for number in range(rounds + 1):
            for kind, count in random.sample([(kind, count) for kind in kinds for count in POOLS],
                                             len(kinds) * len(POOLS)):
                working = [system.clients[0] for system in systems[kind.name][:count]]
                for client in working:
                    client.tell("round")
                total = {}
                for client in working:
                    while (line := client.hear()) != "end":
                        call, _, mean = line.split()  # of what was done: others' turns count
                        total[call] = total.get(call, 0) + 1e9 / float(mean)
                if number > 0:
                    for call, value in total.items():
                        samples.setdefault((call, count), {}).setdefault(kind.name, []).append(value)
    finally:
        stop_all([system for some in systems.values() for system in some])
    rows = []
    for (call, count), of in sorted(samples.items(), key=lambda item: (POOL_CALLS.index(item[0][0]), item[0][1])):
        medians = {name: statistics.median(values) for name, values in of.items()}
        rows.append({"name": f"{call}, {count} pool{'s' if count > 1 else ''}", "cores": 2, "unit": "/s", "better": "higher",
                     "ours": medians.pop(OursUnion.name, None), "peers": medians,
                     "range": {name: [min(values), max(values)] for name, values in of.items()}})
    return rows


def thread_rows(cpus, milliseconds):
    files = [f"d/{d}/{f}" for d in range(10) for f in range(0, 100, 10)]
    done = subprocess.run(["taskset", "-c", cpus, str(built("bench/cephfs")), "threads", "/upper-of-threads", "/image", *files,
                           str(milliseconds * 5)], stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise Failure(f"cephfs threads ended with status {done.returncode}")
    rows = []
    for line in done.stdout.splitlines():
        call, threads, ours, raw = line.split()
        rows.append({"name": f"{call}, {threads} thread{'s' if threads != '1' else ''}", "cores": 2, "unit": "/s",
                     "better": "higher", "ours": float(ours), "peers": {"raw": float(raw)}})
    return rows


def bench(options):
    if not set(options.only or []) <= set(PARTS):
        raise Failure(f"ceph has the parts {', '.join(PARTS)}")
    for program in ("ceph-fuse", "unionfs", "db_bench"):
        if shutil.which(program) is None:
            raise Failure(f"{program} is not installed")
    parts = options.only or PARTS
    rounds = options.rounds or ROUNDS
    cpus = cpus_of(2)
    base = pathlib.Path(tempfile.mkdtemp(prefix="libservices-bench."))
    measurement = Measurement()
    rows = []

    def show(title, some):
        if some:
            print_rows(title, some)
            rows.extend({**row, "part": title} for row in some)

    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70%,mode=755", "libservices-bench", base], check=True)
        with cluster(base):
            begun = time.monotonic()
            make_files(base, cpus, rounds, max(POOLS))
            make_archives(base)
            say(f"files are made ({time.monotonic() - begun:.1f} s)")
            try:
                if {"calls", "content", "programs"} & set(parts):
                    for kind in PLAIN + UNIONS:
                        measurement.add(kind, base, cpus, options.ms)
                    say(f"systems are started ({time.monotonic() - begun:.1f} s)")
                for part, steps in (("calls", lambda system, _: calls_of(system.calls)), ("content", content_steps),
                                    ("programs", program_steps)):
                    if part in parts:
                        measurement.rounds(min(rounds, PROGRAM_ROUNDS) if part == "programs" else rounds, steps)
                        say(f"{part} are done ({time.monotonic() - begun:.1f} s)")
                for system in measurement.systems:
                    measurement.put("memory at last", system, resident_bytes(system) / MIB)
            finally:
                measurement.stop()
            for title, union in (("ceph", False), ("union(ceph, ceph)", True)):
                show(f"{title}, client, service and cluster on 2 cores, median of {rounds} rounds", measurement.rows(union))
            if "pools" in parts:
                show("pools of a union each, all at once: calls of all in a second",
                     pool_rows(base, cpus, options.ms, rounds))
            if "threads" in parts:
                show("threads, without a service: calls of all in a second", thread_rows(cpus, options.ms))
    finally:
        subprocess.run(["umount", "-l", str(base)], check=False)
        base.rmdir()
    if not options.only:
        record("ceph", rows, {"rounds": rounds, "milliseconds_per_call": options.ms, "puts": PUTS,
                              "value_bytes": VALUE_BYTES, "left_out": measurement.failures})
    return not any(kind.name in measurement.failures for kind in (Ours, OursUnion))
