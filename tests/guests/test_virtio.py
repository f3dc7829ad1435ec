# SPDX-License-Identifier: MIT
"""Each virtio device, with a correct and with a hostile driver."""

import os
import re
import subprocess
import time
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit

from vmm import GuestTest, add_tap, cpu_seconds, needs_vhost, text, wait_until

DESCRIPTORS = 256  # RLIMIT_NOFILE with several shares
# Rounds of the payload mutate for each device. A million in all takes hours where KVM is emulated.
SEED = int(os.environ.get("SEED", "1"))
MUTATIONS = int(os.environ.get("MUTATIONS", "300"))
ATTACKS = 55  # of the payload hostile, with the valid request


class Devices(GuestTest):
    """One subclass per kind of device."""
    device = ""

    def options(self) -> list[object]:
        return []

    def check(self, payload: str, *options: object, **more) -> str:
        return self.check_passes(payload, *self.options(), *options, cmdline=self.device, **more)

    def check_hostile(self):
        done = self.boot("hostile", *self.options(), cmdline=self.device)
        self.check_status(done, 0)
        played = re.findall(r"^ok (\w+)$", text(done.stdout), re.M)
        self.assertEqual(len(played), len(set(played)))
        self.assertGreaterEqual(len(played), ATTACKS)
        for line in text(done.stderr).splitlines():
            self.assertRegex(line, f"^minivmm: {self.device}0: queue . broken by the guest: ")

    def check_race(self):
        self.assertRegex(self.check("race", "--cpus", "2"), r"\Aanswered \d+ of \d+\n\Z")

    def check_idle(self, state: str):
        """A handled notification does not keep a loop busy."""
        cmdline = f"{self.device} {state}"
        with self.running("idle", *self.options(), cmdline=cmdline) as process:
            self.assertEqual(process.first_line, b"idle\n")
            before = cpu_seconds(process.pid)
            time.sleep(1)
            self.assertLess(cpu_seconds(process.pid) - before, 0.2)


class Rng(Devices):
    device = "rng"

    def test_requests(self):
        self.check("rng")

    def test_hostile(self):
        self.check_hostile()

    def test_random_rings(self):
        done = self.boot("mutate", *self.options(), cmdline=f"{self.device} {SEED} {MUTATIONS}")
        self.check_status(done, 0)
        found = re.fullmatch(r"answered (\d+), broken (\d+) of (\d+)\n", text(done.stdout))
        self.assertTrue(found, text(done.stdout))
        self.assertEqual(int(found[3]), MUTATIONS)
        self.assertGreater(int(found[1]), 0)
        self.assertGreater(int(found[2]), 0)

    def test_every_width_at_every_register(self):
        self.check("registers")

    def test_descriptors_changed_while_read(self):
        self.check_race()

    def test_notification_after_reset(self):
        self.check_idle("reset")

    def test_handled_notification(self):
        self.check_idle("live")


class Balloon(Rng):
    device = "balloon"

    def options(self):
        return ["--balloon"]

    def test_requests(self):
        """Of 32 MiB that the guest has used and reports as free, the host has at least 30 back."""
        def resident() -> int:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.search(r"^RssAnon:\s+(\d+) kB$", status, re.M)[1]) // 1024

        with self.running("balloon", *self.options(), stdin=subprocess.PIPE) as process:
            self.assertEqual(process.first_line, b"touched\n")
            used = resident()
            self.assertGreaterEqual(used, 32)
            process.stdin.write(b"x")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), b"reported\n")
            self.assertLess(resident(), used - 30)
            process.stdin.write(b"x")
            process.stdin.flush()
            self.assertEqual(process.wait(), 0)


class Blk(Rng):
    device = "blk"

    def options(self):
        return ["--disk", self.disk()]

    def test_requests(self):
        for engine in ("auto", "thread"):
            with self.subTest(engine=engine):
                said = self.check_passes("blk", "--disk", f"{self.disk()},engine={engine}")
                self.assertIn("ok read_past_the_end\n", said)

    def test_write_to_a_read_only_disk(self):
        disk = self.disk()
        said = self.check_passes("blk", "--disk", f"{disk},ro", cmdline="read-only")
        self.assertEqual(said, "ok write_to_a_read_only_disk\n")
        self.assertEqual(disk.read_bytes(), bytes(2048 * 512))


class Net(Rng):
    device = "net"

    def options(self):
        return ["--net", "user"]

    def setUp(self):
        super().setUp()
        done = self.boot("hello", "--net", "user")
        if b"libslirp" in done.stderr:
            self.skipTest(text(done.stderr).strip())

    def test_requests(self):
        self.check("net")


class Tap(Rng):
    """The tap has the address that the payload resolves."""
    device = "net"
    name = f"minivmm-{os.getpid()}"  # other tests may run on this host, too
    vhost = ""  # off: it is to be asked for
    kernel_threads = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        add_tap(cls.name, cls.addClassCleanup)

    def options(self):
        return ["--net", f"tap,name={self.name}{self.vhost}"]

    def test_requests(self):
        self.check("net")

    @staticmethod
    def servers(tasks: list[str]) -> list[str]:
        """Threads of vhost, named after the thread that created them. Since Linux 6.4 they belong to
        its process."""
        names = subprocess.check_output(["ps", "-eLo", "comm"], text=True).split()
        return [name for name in names if name.removeprefix("vhost-") in tasks]

    def test_served_by_a_kernel_thread(self):
        with self.running("idle", *self.options(), cmdline="net live") as process:
            self.assertEqual(process.first_line, b"idle\n")
            tasks = os.listdir(f"/proc/{process.pid}/task")
            self.assertEqual(len(self.servers(tasks)), self.kernel_threads)
        wait_until(lambda: not self.servers(tasks), "the end of vhost's thread")


class Vhost(Tap):
    """The same NIC served by vhost-net, which tolerates more and reports nothing."""
    vhost = ",vhost"
    kernel_threads = 1

    @classmethod
    def setUpClass(cls):
        needs_vhost()
        super().setUpClass()

    def test_hostile(self):
        done = self.boot("hostile", *self.options(), cmdline=f"{self.device} vhost")
        self.check_status(done, 0)
        self.assertGreaterEqual(len(re.findall(r"^ok ", text(done.stdout), re.M)), ATTACKS)

    def test_requests(self):
        self.check_passes("net", *self.options(), cmdline="net vhost")


class Fs(Rng):
    device = "fs"

    def setUp(self):
        super().setUp()
        (self.directory / "secret").write_text("not for guests")
        self.shared = self.directory / "shared"
        for number in range(100):
            (self.shared / f"folder/d{number:02}").mkdir(parents=True)
        (self.shared / "file").write_text("shared")
        (self.shared / "out").symlink_to("..")
        (self.shared / "folder/up").symlink_to("../..")
        (self.shared / "absolute").symlink_to(self.directory)
        (self.shared / "self").symlink_to("/proc/self/root")
        os.mkfifo(self.shared / "pipe")

    def options(self):
        return ["--share", f"{self.shared},tag=shared"]

    def snapshot(self) -> list[tuple]:
        """All files with their sizes and times of change."""
        return [(path, path.lstat().st_mode, path.lstat().st_nlink, path.lstat().st_size,
                 path.lstat().st_mtime_ns, path.lstat().st_ctime_ns)
                for path in sorted([self.directory, *self.directory.rglob("*")])]

    def test_requests(self):
        before = self.snapshot()
        said = self.check("fs", "--share", "/,tag=all,rw", "--share", f"{self.shared},tag=again",
                          preexec_fn=lambda: setrlimit(RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)))
        self.assertEqual(said.count("ok "), 10)
        self.assertEqual(self.snapshot(), before)

    def test_memory_stays_flat_during_a_long_walk(self):
        def private_kib(lines: int) -> int:
            for _ in range(lines):
                self.assertEqual(process.stdout.readline(), b"walked\n")
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.search(r"RssAnon:\s*(\d+) kB", status)[1])

        # AddressSanitizer keeps what is freed for a while.
        options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
        with self.running("fs", *self.options(), cmdline="walk",
                          env=os.environ | {"ASAN_OPTIONS": options}) as process:
            first = private_kib(4)
            self.assertLess(private_kib(25), first + 300)  # a node for each walk would be 600


class Console(Rng):
    device = "console"

    def options(self):
        return ["--console", "file=console.log"]

    def test_requests(self):
        done = self.boot("console", "--console", "stdio", "--serial", "file=serial.log",
                         input=b"x" * 1000 + b"\x03\x04\x01.")
        self.assertEqual((self.directory / "serial.log").read_bytes(), b"")
        self.assertEqual((done.returncode, done.stdout), (0, b"E" + b"x" * 1000 + b"\x03\x04\x01."))

    def test_hostile(self):
        self.check_hostile()
        self.assertRegex((self.directory / "console.log").read_bytes(), rb"\A\.{50,}\Z")


del Devices
