# SPDX-License-Identifier: Apache-2.0
"""`tools/bench start`: copies of lighttpd, each with the root of a container, from fork until all have answered.

The image is one lower directory on a tmpfs: lighttpd, the libraries that it loads, a configuration and a
document. Each round makes the unions anew, with empty uppers, so what they know of the image they learn in the
round; the image itself is in memory. `64 of 64 unions`: a union for each copy, all of ours in one service, as a
tenant's containers are. `64 of one union`: all copies in the same one.
"""

import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile

from harness import (OURS, Failure, FuseOverlayfs, OursMounted, OursOverDevice, Overlayfs, System, built, cpus_of,
                     fuse_over_io_uring, output_of, print_rows, record, say)

COPIES = 64
ROUNDS = 5
FIRST_PORT = 20000
SERVER = "/usr/sbin/lighttpd"
GOAL = 1  # not slower than kernel overlayfs; the published system of this kind took 8.8 times as long

CONFIGURATION = """
server.document-root = "/var/www"
server.bind = "127.0.0.1"
server.port = env.PORT
server.pid-file = "/run/lighttpd-" + env.PORT + ".pid"
server.errorlog = "/var/log/lighttpd/error-" + env.PORT + ".log"
server.modules = ("mod_accesslog", "mod_dirlisting", "mod_deflate")
accesslog.filename = "/var/log/lighttpd/access-" + env.PORT + ".log"
index-file.names = ("index.html")
"""


def copy_into(root, path):
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    target.chmod(0o755)


def make_image(root):
    if not pathlib.Path(SERVER).exists():
        raise Failure("lighttpd is not installed")
    wanted = [SERVER, *(f"/usr/lib/lighttpd/mod_{name}.so" for name in ("accesslog", "dirlisting", "deflate"))]
    libraries = {word for path in wanted for word in output_of("ldd", path).split() if word.startswith("/")}
    for path in [*wanted, *sorted(libraries)]:
        copy_into(root, path)
    for directory in ("run", "var/log/lighttpd", "var/www", "etc/lighttpd", "dev", "var/tmp"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "etc/lighttpd/lighttpd.conf").write_text(CONFIGURATION, encoding="ascii")
    (root / "var/www/index.html").write_text("<p>It works.</p>\n" * 100, encoding="ascii")
    subprocess.run(["mknod", str(root / "dev/null"), "c", "1", "3"], check=True)


class OursForAll(OursMounted):
    """One service with the mounts of all."""

    def __init__(self, base, lowers, cpus, unions):
        super().__init__(base, lowers, cpus)
        self.unions = unions

    def command(self):
        command = [built("src/cli/libservices"), "serve", "--fuse", *self.options, "--run-directory", self.home / "run"]
        for number in range(self.unions):
            upper = self.home / f"upper-{number}"
            upper.mkdir()
            self.places.append(self.home / f"at-{number}")
            command += ["--mount", f"{self.places[-1]}=union(local:{upper}, local:{self.lowers[0]})"]
        self.at = self.places[-1]
        return command

    def start(self):
        self.places = []
        super().start()

    def stop(self):
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(20)
        super().stop()


class OursForAllOverDevice(OursForAll):
    name, options = OursOverDevice.name, OursOverDevice.options


class Separate(System):
    """A mount of `kind` for each."""

    def __init__(self, kind, base, lowers, cpus, unions):
        self.name = kind.name
        super().__init__(base, lowers, cpus)
        self.all = []
        for number in range(unions):
            (self.home / str(number)).mkdir()
            self.all.append(kind(self.home / str(number), lowers, cpus))

    def start(self):
        for one in self.all:
            one.start()
        self.places = [one.at for one in self.all]

    def stop(self):
        for one in self.all:
            one.stop()


def one_round(base, image, cpus, unions):
    kinds = [lambda *words, kind=kind: Separate(kind, *words) for kind in (Overlayfs, FuseOverlayfs)]
    kinds += [OursForAll, OursForAllOverDevice]
    random.shuffle(kinds)
    values = {}
    for kind in kinds:
        system = kind(base, [image], cpus, unions)
        try:
            system.start()
            places = (system.places * COPIES)[:COPIES]
            done = subprocess.run(system.on_cpus([built("bench/start"), FIRST_PORT, *places]), stdout=subprocess.PIPE,
                                  check=False)
            if done.returncode != 0:
                raise Failure("a copy did not start")
            values[system.name] = int(done.stdout)
        except (Failure, OSError) as failure:
            say(f"libservices: bench: {system.name} is left out of this round: {failure}")
        finally:
            system.stop()
            shutil.rmtree(system.home, ignore_errors=True)
    return values


def bench(options):
    base = pathlib.Path(tempfile.mkdtemp(prefix="libservices-bench."))
    rounds = options.rounds or ROUNDS
    cores = (options.cores or [2])[0]
    rows = []
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70%,mode=755", "libservices-bench", str(base)], check=True)
    try:
        image = base / "image"
        make_image(image)
        with fuse_over_io_uring():
            for name, unions in {f"{COPIES} of {COPIES} unions": COPIES, f"{COPIES} of one union": 1}.items():
                samples = {}
                for number in range(rounds + 1):
                    for system, value in one_round(base, image, cpus_of(cores), unions).items():
                        if number > 0:  # the first one warms up
                            samples.setdefault(system, []).append(value)
                medians = {system: statistics.median(values) for system, values in samples.items()}
                rows.append({"name": name, "cores": cores, "unit": "ns", "ours": medians.pop(OURS, None), "peers": medians,
                             "goal": GOAL,
                             "range": {system: [min(values), max(values)] for system, values in samples.items()}})
    finally:
        subprocess.run(["umount", "-l", str(base)], check=False)
        base.rmdir()
    print_rows(f"start of {COPIES} lighttpd, median of {rounds} rounds", rows)
    record("start", rows, {"rounds": rounds, "copies": COPIES})
    return all(row["ours"] for row in rows)
