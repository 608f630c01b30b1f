# SPDX-License-Identifier: Apache-2.0
"""`tools/bench union`: what a union does to its layers, each time with an empty upper, beside its peers.

A part (--only NAME) is a tree that is made once, and steps that each system takes in each round, in random
order: it is mounted over the shared lower directories with a new upper, a `trees` inside it is told the
steps one by one, and all of it is removed again. One part runs on tmpfs, or on tmpfs and on ext4 in a file
on that tmpfs: it has ext4's journal and page cache, and no device.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time

from harness import OURS, Client, Failure, FuseOverlayfs, Ours, Overlayfs, built, cpus_of, print_rows, record, say

MIB = 1 << 20
SMALL_FILES = 10_000
LISTED = 1_000_000
LISTED_BRANCHES = 3
LAYERS = (1, 10, 100, 500)  # 500 is the most that overlayfs takes
LOOKED_UP = 1000
ROUNDS = 3
SLOW_SECONDS = 20
EXT4_BYTES = 9 << 30  # a lower of 2 GiB, one copy of it, and the journal

# How many times faster than kernel overlayfs.
GOALS = {"append to 2 GiB": 100, "append to 2 GiB, fsync": 100}
# A row that is one row over another: what grows with the size of what is changed, and how much ours may.
GROWTHS = [
    ("append: 2 GiB over 64 MiB", "append to 2 GiB", "append to 64 MiB", 2),
    ("append, fsync: 2 GiB over 64 MiB", "append to 2 GiB, fsync", "append to 64 MiB, fsync", 2),
    ("mv: 10,000 files over 100", "mv of 10,000 files", "mv of 100 files", 2),
]


class LayeredOverlayfs(Overlayfs):
    """Mounted by the calls of Linux 6.5, because mount(2) has no room for the names of 500 layers."""

    options = {"redirect_dir": "off", "metacopy": "off"}

    def start(self):
        libc = ctypes.CDLL(None, use_errno=True)

        def call(number, *words):
            done = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(w) if isinstance(w, int) else w for w in words))
            if done < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return done

        move_mount, fsopen, fsconfig, fsmount = 429, 430, 431, 432
        set_string, create, no_source_path = 1, 6, 4
        settings = [("lowerdir+", lower) for lower in self.lowers]
        settings += [("upperdir", self.upper), ("workdir", self.work), *self.options.items()]
        context = call(fsopen, b"overlay", 0)
        try:
            for key, value in settings:
                call(fsconfig, context, set_string, key.encode(), str(value).encode(), 0)
            call(fsconfig, context, create, None, None, 0)
            mount = call(fsmount, context, 0, 0)
            try:
                call(move_mount, mount, b"", -100, str(self.at).encode(), no_source_path)
            finally:
                os.close(mount)
        except OSError as failure:
            with contextlib.suppress(OSError):
                raise Failure(os.read(context, 4096).decode().strip()) from failure
            raise
        finally:
            os.close(context)


class RedirectingOverlayfs(LayeredOverlayfs):
    """A directory's rename leaves a redirect instead of EXDEV; a change of attributes copies no content."""

    name = "redirect+meta"
    options = {"redirect_dir": "on", "metacopy": "on"}


KINDS = [LayeredOverlayfs, RedirectingOverlayfs, FuseOverlayfs, Ours]


def ask(client, line):
    client.tell(line)
    answer = client.hear()
    if answer.startswith("failed"):
        raise Failure(f"'{line}': {answer}")
    values = [float(word) for word in answer.split()]
    return values if len(values) > 1 else values[0]


class Part:
    """The rows of one tree. `lowers` are made by make(client, home), a `trees` that is in no union."""

    name = ""
    kinds = KINDS
    volumes = ("tmpfs", "ext4")

    def make(self, client, home):
        raise NotImplementedError

    def steps(self, client, at, volume):
        """Yields (row, nanoseconds)."""
        raise NotImplementedError


class Append(Part):
    name = "append"
    kinds = [LayeredOverlayfs, FuseOverlayfs, Ours]  # metacopy is no help for content
    sizes = {"64 MiB": 64 * MIB, "2 GiB": 2048 * MIB}

    def __init__(self, ends, volumes):
        self.ends, self.volumes = ends, volumes

    def make(self, client, home):
        lower = home / "lower"
        lower.mkdir()
        for count in self.sizes.values():
            with open(lower / str(count), "wb") as file:
                for _ in range(count // MIB):
                    file.write(os.urandom(1024) * 1024)
        return [lower]

    def steps(self, client, at, volume):
        for size, count in self.sizes.items():
            row = f"append to {size}" + (", fsync" if self.ends == "syncs" else "")
            yield row, ask(client, f"append {at}/{count} {count} {self.ends}")


class Tree(Part):
    name = "tree"

    def make(self, client, home):
        lower = home / "lower"
        for name in ("touched", "changed", "removed"):
            for directory in range(10):
                path = lower / name / str(directory)
                path.mkdir(parents=True)
                for file in range(SMALL_FILES // 10):
                    (path / str(file)).write_bytes(b"x" * 4096)
        return [lower]

    def steps(self, client, at, volume):
        yield "touch 10,000 files", ask(client, f"run find {at}/touched -type f -exec touch {{}} +")
        yield "chmod -R, 10,000 files", ask(client, f"run chmod -R o-r {at}/changed")
        yield "rm -r, 10,000 files", ask(client, f"run rm -r {at}/removed")


class Move(Part):
    name = "move"
    sizes = {"100": 100, "10,000": SMALL_FILES}

    def make(self, client, home):
        for count in self.sizes.values():
            path = home / "lower" / f"d{count}"
            path.mkdir(parents=True)
            for file in range(count):
                (path / str(file)).write_bytes(b"x" * 4096)
        return [home / "lower"]

    def steps(self, client, at, volume):
        for name, count in self.sizes.items():
            yield f"mv of {name} files", ask(client, f"move {at}/d{count} {at}/moved{count}")


class List(Part):
    name = "list"
    volumes = ("tmpfs",)

    def make(self, client, home):
        lowers = []
        for branch in range(LISTED_BRANCHES):
            lowers.append(home / str(branch))
            (lowers[-1] / "d").mkdir(parents=True)
            count = LISTED // LISTED_BRANCHES + (LISTED % LISTED_BRANCHES if branch == 0 else 0)
            ask(client, f"make {lowers[-1]}/d of-branch-{branch}- {count}")
        return lowers

    def steps(self, client, at, volume):
        for when in ("first", "again"):
            yield f"list 1,000,000, {when}", ask(client, f"list {at}/d {LISTED}")


class Lookup(Part):
    """Every layer has the directories `old`, where the names lie in the lowest, and `new`, where they are missing."""

    name = "lookup"
    volumes = ("tmpfs",)

    def __init__(self, layers):
        self.layers = layers

    def make(self, client, home):
        lowers = [home / str(layer) for layer in range(self.layers)]
        for lower in lowers:
            for directory in ("old", "new"):
                (lower / directory).mkdir(parents=True)
                ask(client, f"make {lower}/{directory} of-{lower.name}- 4")
        ask(client, f"make {lowers[-1]}/old name- {LOOKED_UP}")
        return lowers

    def steps(self, client, at, volume):
        for which, directory, expected in (("stat", "old", 0), ("stat of missing", "new", errno.ENOENT)):
            layers = f"{self.layers} layer{'s' if self.layers > 1 else ''}"
            cold, warm = ask(client, f"stat {at}/{directory} name- {LOOKED_UP} {expected}")
            yield f"{which}, {layers}, cold", cold
            yield f"{which}, {layers}, warm", warm


# tmpfs has nothing to sync.
PARTS = [Append("ends", ("tmpfs", "ext4")), Append("syncs", ("ext4",)), Tree(), Move(), List(), *map(Lookup, LAYERS)]


@contextlib.contextmanager
def volume_of(kind, base):
    """An empty directory on a filesystem of that kind."""
    at = base / kind
    at.mkdir()
    if kind == "ext4":
        image = base / "ext4.image"
        with open(image, "wb") as file:
            file.truncate(EXT4_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, at], check=True)
    try:
        yield at
    finally:
        if kind == "ext4":
            subprocess.run(["umount", at], check=True)
            image.unlink()
        shutil.rmtree(at)


class Round:
    """One system over the lowers with an upper of its own, from the mount to the removal of all that it has left."""

    def __init__(self, kind, home, lowers, cpus):
        self.system = kind(home, lowers, cpus)

    def __enter__(self):
        try:
            self.system.start()
            return self.system, self.system.client([built("bench/trees"), self.system.at])
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        try:
            self.system.stop()
        finally:
            shutil.rmtree(self.system.home, ignore_errors=True)
        # Nobody writes in another's round, nor gives back what was removed.
        subprocess.run(["sync", "-f", self.system.home.parent], check=True)
        subprocess.run(["fstrim", self.system.home.parent], stderr=subprocess.DEVNULL, check=False)


def measure(part, volume, home, rounds, cpus):
    """Returns {row: {system: [nanoseconds]}} and {system: why it is left out}.

    The first round only warms up. A system that is very slow has no other one, and that is its figure.
    """
    maker = Client([built("bench/trees"), home], os.environ)
    try:
        lowers = part.make(maker, home)
    finally:
        maker.stop()
    subprocess.run(["sync", "-f", home], check=True)
    samples, failures, slow = {}, {}, set()
    for number in range(rounds + 1):
        for kind in random.sample(part.kinds, len(part.kinds)):
            if kind.name in failures or kind.name in slow:
                continue
            begun = time.monotonic()
            try:
                with Round(kind, home, lowers, cpus) as (system, client):
                    for row, value in part.steps(client, system.at, volume):
                        of = samples.setdefault(row, {}).setdefault(kind.name, [])
                        of[:] = [value] if number < 2 else [*of, value]
            except (Failure, OSError) as failure:
                say(f"libservices: bench: {kind.name} is left out of {part.name} on {volume}: {failure}")
                failures[kind.name] = str(failure)
            if time.monotonic() - begun > SLOW_SECONDS:
                slow.add(kind.name)
    return samples, failures


def rows_of(part, volume, cores, samples, failures):
    medians = {row: {kind.name: statistics.median(by_system[kind.name]) for kind in part.kinds
                     if kind.name in by_system and kind.name not in failures} for row, by_system in samples.items()}
    rows = []
    for name, of in medians.items():
        row = {"name": f"{name} ({volume})", "cores": cores, "unit": "ns", "ours": of.get(OURS),
               "peers": {system: value for system, value in of.items() if system != OURS},
               "range": {system: [min(values), max(values)] for system, values in samples[name].items()}}
        if name in GOALS:
            row["goal"] = GOALS[name]
        rows.append(row)
    for name, large, small, at_most in GROWTHS:
        if large not in medians or small not in medians:
            continue
        of = {system: medians[large][system] / medians[small][system] for system in medians[large]}
        rows.append({"name": f"{name} ({volume})", "cores": cores, "unit": "x", "ours": of.pop(OURS, None),
                     "peers": of, "at_most": at_most})
    return rows


def bench(options):
    parts = [part for part in PARTS if not options.only or part.name in options.only]
    if not parts or options.only and not set(options.only) <= {part.name for part in parts}:
        raise Failure(f"union has the parts {', '.join(dict.fromkeys(part.name for part in PARTS))}")
    base = pathlib.Path(tempfile.mkdtemp(prefix="libservices-bench."))
    rounds = options.rounds or ROUNDS
    left_out, rows = {}, []
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70%,nr_inodes=0,mode=755", "libservices-bench", base],
                       check=True)
        for cores in options.cores or [2]:
            some = []
            for volume in ("tmpfs", "ext4"):
                for part in (part for part in parts if volume in part.volumes):
                    with volume_of(volume, base) as home:
                        say(f"{part.name} on {volume}")
                        samples, failures = measure(part, volume, home, rounds, cpus_of(cores))
                    some += rows_of(part, volume, cores, samples, failures)
                    left_out |= {f"{system}, {part.name} on {volume}": why for system, why in failures.items()}
            plural = "s" if cores > 1 else ""
            print_rows(f"union, an empty upper in each round, client and service on {cores} core{plural}, "
                       f"median of {rounds} rounds", some)
            rows += some
    finally:
        subprocess.run(["umount", "-l", base], check=False)
        base.rmdir()
    if not options.only:
        record("union", rows, {"rounds": rounds, "left_out": left_out})
    return not any(system.startswith(OURS) for system in left_out)
