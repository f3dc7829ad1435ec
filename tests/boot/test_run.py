# SPDX-License-Identifier: MIT
"""minivmm run: exit statuses, streams and messages. The guest's root is the lane's."""

import contextlib
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest
from pathlib import Path

from machine import FILES, MACHINE, MINIVMM, SERIAL, WAIT, GuestTest, sha256

MIB = 1 << 20
EMULATED = MACHINE == "aarch64"  # QEMU emulates all of it on an x86 host: much slower
LIMIT = 3 * WAIT if EMULATED else WAIT


def kernel(flavour: str = "cloud") -> Path:
    return next((FILES / "kernels" / flavour / "boot").glob("vmlinuz-*"))


def version(flavour: str = "cloud") -> str:
    return kernel(flavour).name.removeprefix("vmlinuz-")


def words(*arguments: object, flavours: tuple[str, ...] = ("cloud",)) -> list[str]:
    kernels = [word for flavour in flavours for word in ("--kernel", kernel(flavour))]
    return list(map(str, (MINIVMM, "run", *kernels, "--memory", "256M",
                          "--boot-timeout", f"{2 * LIMIT}s", *arguments)))


def start(*arguments: object, **options: object) -> subprocess.Popen:
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
               "stderr": subprocess.PIPE} | options
    flavours = options.pop("flavours", ("cloud",))
    return subprocess.Popen(words(*arguments, flavours=flavours), **options)


def run(*arguments: object, data: bytes = b"", **options: object) -> subprocess.CompletedProcess:
    began = time.monotonic()
    with start(*arguments, stdin=subprocess.PIPE, **options) as process:
        try:
            output, errors = process.communicate(data, LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise AssertionError(f"does not end: {output[-2000:]!r} {errors[-2000:]!r}") from None
    print(f"# {time.monotonic() - began:.1f} s: {' '.join(map(str, arguments))[-60:]!r} "
          f"ended with {process.returncode}", flush=True)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def children(process: int) -> list[int]:
    return [int(child) for child in
            Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def lives(process: int) -> bool:
    """True if the process exists and is not a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


def boots(process: subprocess.Popen):
    """Waits until the machine has a vCPU, and a moment longer."""
    deadline = time.monotonic() + LIMIT
    while not any("kvm-vcpu" in link for child in children(process.pid) for link in links(child)):
        if time.monotonic() > deadline:
            raise AssertionError("there is no vCPU")
        time.sleep(0.01)
    time.sleep(0.5)


def links(process: int) -> list[str]:
    """The targets of a process's file descriptors."""
    found = []
    for fd in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.append(os.readlink(fd))
    return found


SCRIPT = r"""
say() { echo "$1=$2"; }
say cwd "$(pwd)"
say who "$(id -u):$(id -g)"
say shown "$SHOWN"
say hidden "$HIDDEN"
say user "$USER"
say uname "$(uname -r)"
say input "$(cat)"
say arguments "$#:$1:$2"
echo error >&2
echo in-overlay >"$PLACE/new" && say overlay "$(cat "$PLACE/new")"
rm "$PLACE/kept" && say removed "$(ls "$PLACE/kept" 2>&1 | wc -l)"
echo through >"$PLACE/rw/out"
mkdir "$PLACE/rw/made" && mv "$PLACE/rw/out" "$PLACE/rw/made/moved"
{ echo x >/mnt/ro/x; } 2>/dev/null || say refused "$(ls /mnt/ro)"
say mounts "$(awk '$2 == "/" { print $3 }' /proc/mounts)"
say loopback "$(cat /sys/class/net/lo/operstate)"
say gateway "$(awk '$2 == "00000000" { print $3 }' /proc/net/route)"
say resolver "$(cat /etc/resolv.conf)"
say untested "$(cat /sys/module/cryptomgr/parameters/notests)"
echo reopened >/dev/stderr
exit 7
"""


class Command(GuestTest):
    """One machine, checked in many ways."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = cls.directory.resolve()
        for name in ("rw", "ro", "ro/inside"):
            (cls.directory / name).mkdir()
        (cls.directory / "kept").write_text("kept")
        cls.done = run(
            "--net", "user", "--rw", "rw", "--ro", "ro:/mnt/ro",
            "--env", "SHOWN", "--env", f"PLACE={cls.directory}",
            "--json", "report.json", "--", "sh", "-c", SCRIPT, "name", "two words", "",
            data=b"said\n", cwd=cls.directory,
            env=os.environ | {"SHOWN": "a=b c", "HIDDEN": "no"})
        cls.said = dict(line.split("=", 1) for line in cls.done.stdout.decode().splitlines()
                        if "=" in line)

    def assert_said(self, **wanted: str):
        self.assertEqual({name: self.said.get(name) for name in wanted}, wanted,
                         (self.done.stdout, self.done.stderr))

    def test_exit_status_is_the_commands(self):
        self.assertEqual(self.done.returncode, 7, self.done.stderr)

    def test_standard_error_is_separate(self):
        self.assertEqual(self.done.stderr, b"error\nreopened\n")

    def test_input_and_its_end(self):
        self.assert_said(input="said")

    def test_arguments(self):
        self.assert_said(arguments="2:two words:")

    def test_where_and_who(self):
        self.assert_said(cwd=str(self.directory), who="0:0", user="root", uname=version())

    def test_environment_is_chosen(self):
        self.assert_said(shown="a=b c", hidden="")

    def test_root_is_unchanged(self):
        self.assert_said(overlay="in-overlay", removed="1", mounts="overlay")
        self.assertEqual((self.directory / "kept").read_text(), "kept")
        self.assertFalse((self.directory / "new").exists())

    def test_network_is_set_up(self):
        self.assert_said(gateway="0202000A", resolver="nameserver 10.0.2.3")

    def test_ciphers_are_not_tested(self):
        self.assert_said(untested="Y")

    def test_rw_writes_through(self):
        self.assertEqual((self.directory / "rw/made/moved").read_text(), "through\n")
        self.assertFalse((self.directory / "rw/out").exists())

    def test_ro_refuses(self):
        self.assert_said(refused="inside")
        self.assertEqual(os.listdir(self.directory / "ro"), ["inside"])

    def test_json(self):
        report = json.loads((self.directory / "report.json").read_text())
        self.assertEqual(
            {name: report[name] for name in ("kernel", "version", "outcome", "status", "exit",
                                             "signal", "panic")},
            {"kernel": str(kernel()), "version": version(), "outcome": "exit", "status": 7,
             "exit": 7, "signal": None, "panic": None})
        times = [report["ms"][name] for name in ("start", "kernel", "init", "command", "end")]
        self.assertEqual(times, sorted(times))
        self.assertGreater(times[-1], 0)


class Tap(unittest.TestCase):
    def test_driver_is_there(self):
        """The network device is the user's to configure, but it is one."""
        add, delete = (["ip", "tuntap", what, "run-tap", "mode", "tap"] for what in ("add", "delete"))
        subprocess.run(add, check=True)
        self.addCleanup(subprocess.run, delete, check=True)
        script = "ls /sys/class/net; awk '$2 ~ /^0+$/ { print $1 }' /proc/net/route"
        for options, wanted in (([], "eth0 lo"), (["--net", "user"], "eth0 eth1 lo eth1")):
            done = run("--net", "tap,name=run-tap", *options, "--", "sh", "-c", script)
            self.assertEqual((done.stdout.decode().split(), done.stderr, done.returncode),
                             (wanted.split(), b"", 0))


class Streams(unittest.TestCase):
    def test_many_bytes(self):
        data = random.Random(1).randbytes((8 if EMULATED else 64) * MIB)
        done = run("cat", data=data)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual((len(done.stdout), sha256(done.stdout)), (len(data), sha256(data)))

    def test_one_stream_keeps_its_order(self):
        """Standard output and error are the same file, as with 2>&1."""
        done = run("sh", "-c", "for i in $(seq 500); do echo out $i; echo err $i >&2; done",
                   stderr=subprocess.STDOUT)
        self.assertEqual((done.returncode, done.stdout.decode().splitlines()),
                         (0, [f"{what} {i}" for i in range(1, 501) for what in ("out", "err")]))

    def test_reader_goes_away(self):
        """As in yes | head -1: the command gets SIGPIPE or EPIPE."""
        with start("yes", "to all") as process:
            self.assertEqual(process.stdout.readline(), b"to all\n")
            process.stdout.close()
            self.assertEqual(process.wait(LIMIT), 128 + signal.SIGPIPE, process.stderr.read())

    def test_full_disk(self):
        """Lost output is a failure, whatever the command's exit status."""
        with open("/dev/full", "wb") as full, start("echo", "x", stdout=full) as process:
            self.assertEqual(process.communicate(timeout=LIMIT)[1],
                             b"minivmm: console output: No space left on device\n")
        self.assertEqual(process.returncode, 125)

    def test_ends_of_streams(self):
        """End of file is passed on in both directions."""
        script = "echo x; exec >&-; cat >&2; exit 3"
        with start("sh", "-c", script, stdin=subprocess.PIPE) as process:
            self.assertEqual(process.stdout.read(), b"x\n")
            self.assertIsNone(process.poll())
            process.stdin.write(b"late")
            process.stdin.close()
            self.assertEqual(process.stderr.read(), b"late")
            self.assertEqual(process.wait(LIMIT), 3)

    def test_signal_reaches_the_command(self):
        with start("sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; "
                   "while :; do sleep 0.1; done") as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.stdout.read(), b"caught\n")
            self.assertEqual(process.wait(LIMIT), 9)


CLOCK = """
import os, sys, time
for line in sys.stdin:
    with open("stamp", "w") as file:
        file.write(line)
    age = time.time_ns() - os.stat("stamp").st_mtime_ns
    print(time.time(), age, flush=True)
"""


class Clock(GuestTest):
    def test_clock(self):
        """The guest's clock is the host's, and what the host writes is not from the future."""
        with start("--rw", self.directory, "--cwd", self.directory, "python3", "-c", CLOCK,
                   stdin=subprocess.PIPE, text=True, bufsize=1) as process:
            for _ in range(20):
                before = time.time()
                process.stdin.write("x\n")
                line = process.stdout.readline()
                after = time.time()
                self.assertTrue(line, process.poll())
                guest, age = map(float, line.split())
                self.assertGreater(guest, before - 0.01)
                self.assertLess(guest, after + 0.01)
                self.assertGreaterEqual(age, 0)
            process.stdin.close()
            self.assertEqual(process.wait(LIMIT), 0)


class SmallRoot(GuestTest):
    def make(self, name: str) -> Path:
        root = self.directory / name
        (root / "bin").mkdir(parents=True)
        shutil.copy(FILES / "busybox", root / "bin")
        (root / "bin/sh").symlink_to("busybox")
        return root

    def test_in_namespaces(self):
        """The strictest sandbox serves directories, too."""
        (self.directory / "rw").mkdir()
        done = run("--sandbox", "strict", "--root", self.make("strict"),
                   "--rw", f"{self.directory}/rw:/rw", "--cwd", "/rw", "--", "sh", "-c",
                   "echo text >made && busybox stat -c %u made && busybox cat made")
        if b"does not provide" in done.stderr:
            self.skipTest(done.stderr.decode())
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"0\ntext\n", b""))
        self.assertEqual((self.directory / "rw/made").read_text(), "text\n")

    def test_small_root(self):
        """It has no /tmp, and the command is a script without #!. The words of --cmdline prevail."""
        root = self.make("small")
        (root / "script").write_text("echo $0 $1; cd /tmp && busybox stat -c %a . &&\n"
                                      "busybox cat /sys/module/cryptomgr/parameters/notests && exit 3\n")
        (root / "script").chmod(0o755)
        done = run("--root", root, "--cmdline", "cryptomgr.notests=0", "/script", "word")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (3, b"/script word\n1777\nN\n", b""))
        self.assertFalse((root / "tmp").exists())


class Balloon(unittest.TestCase):
    """What an idle guest has freed, the host has again, to a tenth."""
    BURST = 256  # MiB
    SCRIPT = f"""
        echo idle; read -r _
        dd if=/dev/zero of=/dev/shm/burst bs=1M count={BURST} 2>/dev/null; echo used; read -r _
        rm /dev/shm/burst; echo freed; read -r _
    """

    def test_burst(self):
        def resident() -> int:
            status = Path(f"/proc/{machine}/status").read_text()
            return int(re.search(r"^RssAnon:\s+(\d+) kB$", status, re.M)[1]) // 1024

        def until(said: bytes):
            self.assertEqual(process.stdout.readline(), said + b"\n")

        with start("--memory", "1G", "--", "sh", "-c", self.SCRIPT, stdin=subprocess.PIPE) as process:
            until(b"idle")
            machine = children(process.pid)[0]
            idle = resident()
            process.stdin.write(b"\n")
            process.stdin.flush()
            until(b"used")
            self.assertGreater(resident(), idle + self.BURST * 0.5)
            process.stdin.write(b"\n")
            process.stdin.flush()
            until(b"freed")
            freed = time.monotonic()
            while resident() > idle + self.BURST * 0.1:
                self.assertLess(time.monotonic(), freed + LIMIT, f"{resident()} MiB, {idle} before")
                time.sleep(0.05)
            print(f"# {idle} MiB idle; {self.BURST} MiB more were back after "
                  f"{time.monotonic() - freed:.1f} s", flush=True)
            process.stdin.write(b"\n")
            process.stdin.close()
            self.assertEqual(process.wait(LIMIT), 0)


class Disk(GuestTest):
    SIZE = 1 << 20

    def run_on(self, *keys: str) -> bytes:
        """Overwrites the first sector of an image; says what it was, and is in the guest."""
        look = "dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -d '\\0'"
        script = f"{look}; echo new | dd of=/dev/vda conv=sync,notrunc,fsync 2>/dev/null; {look}"
        done = run("--disk", ",".join([str(self.image), *keys]), "--", "sh", "-c", script)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def test_disk(self):
        self.image = self.directory / "disk.img"
        self.image.write_bytes(b"old\n".ljust(self.SIZE, b"\0"))
        before = self.image.read_bytes()
        self.assertEqual(self.run_on("throw-away"), b"old\nnew\n")
        self.assertEqual(self.image.read_bytes(), before)
        self.assertEqual(self.run_on(), b"old\nnew\n")
        self.assertEqual(self.image.read_bytes(), b"new\n".ljust(self.SIZE, b"\0"))


class Modules(unittest.TestCase):
    def test_none(self):
        done = run("--modules", "none", "true")
        self.assertEqual((done.returncode, done.stdout), (125, b""), done.stderr)
        self.assertRegex(done.stderr.decode().splitlines()[-1],
                         "^minivmm: failed: this kernel has no .*; with --modules none, ")


class Refusals(unittest.TestCase):
    """A refusal prints one line, writes the JSON report, and starts no machine."""

    def refuse(self, *arguments: object) -> str:
        done = subprocess.run(words(*arguments), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=LIMIT)
        self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done.stderr

    def test_unwritable_report(self):
        self.assertIn("--json: open /nowhere/file: No such",
                      self.refuse("--json", "/nowhere/file", "true"))
        done = run("--boot-timeout", "1ms", "--json", "/dev/full", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"minivmm: --json: write /dev/full: No space left on device\n", done.stderr)

    def test_refusals(self):
        report = Path(self.enterContext(tempfile.TemporaryDirectory())) / "report.json"
        for wanted, *arguments in (
                ("--root /etc/passwd: not a directory", "--root", "/etc/passwd", "true"),
                ("--rw /nowhere: No such file", "--rw", "/nowhere", "true"),
                ("--ro /etc:mnt (GUESTDIR must begin with a slash)", "--ro", "/etc:mnt", "true"),
                ("share /proc: pseudo filesystems such as /proc are not shared", "--root", "/proc",
                 "true"),
                ("run: no command", ),
                ("unknown option '--kernle'; did you mean --kernel", "--kernle", "x"),
                ("--user nobody-knows: no such user", "--user", "nobody-knows", "true"),
                ("open /nowhere/kernel", "--kernel", "/nowhere/kernel", "true"),
                ("/nowhere/modules", "--modules", "/nowhere/modules", "true"),
                ("--net user: hostfwd: only one machine at a time can use it; use --jobs 1", "-j2",
                 "--kernel", kernel(), "--net", "user,hostfwd=::8080-:80", "true")):
            with self.subTest(wanted=wanted):
                line = self.refuse("--json", report, *arguments)
                found = json.loads(report.read_text())
                found = found[0] if isinstance(found, list) else found
                self.assertIn(wanted, line)
                self.assertEqual((found["outcome"], found["status"], f"minivmm: {found['message']}\n"),
                                 ("failed", 125, line))
                report.unlink()


class Killed(unittest.TestCase):
    """kill -9 of the supervisor ends the machine, at any time."""

    def kill_when(self, reached, *arguments: object):
        with start(*arguments) as process:
            reached(process)
            machines = children(process.pid)
            self.assertEqual(len(machines), 1)
            process.kill()
            process.wait()
            deadline = time.monotonic() + WAIT
            while lives(machines[0]) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertFalse(lives(machines[0]))

    def test_at_the_start(self):
        def reached(process):
            while not children(process.pid):
                time.sleep(0.001)
        self.kill_when(reached, "true")

    def test_while_booting(self):
        self.kill_when(boots, "sleep", "1000")

    def test_while_the_command_writes(self):
        self.kill_when(lambda process: process.stdout.read(MIB), "yes")


SYSRQ = "echo {} >/proc/sysrq-trigger; sleep 1000"

# Options and command; exit status; minivmm's message.
ENDS = {
    "killed": (("sh", "-c", "kill -9 $$"), 137, r"\Z"),
    "not found": (("no-such-command",), 127,
                  r"minivmm: cannot run 'no-such-command': No such file or directory\n\Z"),
    "not executable": (("/etc/passwd",), 126,
                       r"minivmm: cannot run '/etc/passwd': Permission denied\n\Z"),
    "time limit": (("--timeout", "20s", "sleep", "1000"), 124,
                   r"minivmm: the command did not end within 20000 ms \(--timeout\)\n\Z"),
    "hang": (("--boot-timeout", "50ms", "true"), 118,
             r"minivmm: the guest did not start the command within 50 ms"),
    "panic": (("sh", "-c", SYSRQ.format("c")), 121,
              r"minivmm: the kernel's last lines:\n.*Kernel panic - not syncing: sysrq.*\n"
              r"minivmm: the guest's kernel panicked: sysrq triggered crash\n\Z"),
    "power-off": (("sh", "-c", SYSRQ.format("o")), 117,
                  r".*minivmm: the guest powered off before the command ended\n\Z"),
    "reset": (("sh", "-c", SYSRQ.format("b")), 120,
              r".*minivmm: the guest reset itself before the command ended\n\Z"),
}


SMALL = ("--memory", "128M", "--boot-timeout", "1h")


class Ends(unittest.TestCase):
    """Runs in several machines at the same time."""

    def start(self, *arguments: object) -> subprocess.Popen:
        process = start(*SMALL, *arguments)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def check_ends(self, ends: dict[str, tuple]):
        processes = {name: self.start(*arguments) for name, (arguments, *_) in ends.items()}
        for name, (_, status, wanted) in ends.items():
            with self.subTest(name):
                output, errors = processes[name].communicate(timeout=3 * LIMIT)
                self.assertEqual((processes[name].returncode, output), (status, b""), errors)
                self.assertRegex(errors.decode(), re.compile(r"\A" + wanted, re.DOTALL))


class AtOnce(Ends):
    """All ways to end."""

    def test_all(self):
        exits = [self.start("sh", "-c", f"echo {number}; exit {number}")
                 for number in range(4 if EMULATED else 12)]
        self.check_ends(ENDS)
        for number, process in enumerate(exits):
            output, errors = process.communicate(timeout=3 * LIMIT)
            self.assertEqual((process.returncode, output, errors),
                             (number, f"{number}\n".encode(), b""))


LIKE_A_PANIC = f"""for file in /dev/kmsg /dev/{SERIAL}; do
    echo "<0>Kernel panic - not syncing: Fatal exception, says the command" >$file
done; """
NO_PVPANIC = """for device in /sys/bus/platform/drivers/pvpanic*/QEMU*; do
    [ -e "$device" ] && echo "${device##*/}" >"${device%/*}/unbind"
done; """

# As ENDS. The kernel reports a panic with or without a driver for pvpanic; a line in its log does not.
PANICS = {
    "panic": (("sh", "-c", NO_PVPANIC + LIKE_A_PANIC + SYSRQ.format("c")), 121,
              r".*minivmm: the guest's kernel panicked: sysrq triggered crash\n\Z"),
    "panic before the init": (("--cmdline", "rdinit=/nowhere", "true"), 121,
                              r".*minivmm: the guest's kernel panicked: VFS: Unable .*\n\Z"),
    "line": (("sh", "-c", LIKE_A_PANIC + "sleep 2; exit 3"), 3, r"\Z"),
    "line and power-off": (("sh", "-c", LIKE_A_PANIC + SYSRQ.format("o")), 117,
                           r".*minivmm: the guest powered off before the command ended\n\Z"),
    "line and reset": (("sh", "-c", NO_PVPANIC + LIKE_A_PANIC + SYSRQ.format("b")), 120,
                       r".*minivmm: the guest reset itself before the command ended\n\Z"),
}


@unittest.skipIf(MACHINE == "aarch64", "arm64 kernels are no bzImages")
class Unpacked(GuestTest):
    """The host unpacks a bzImage, and its address is still random."""

    LINKED_AT = "ffffffff81000000"

    def address(self, *options: str) -> str:
        done = run(*options, "sh", "-c", "grep ' _text$' /proc/kallsyms && cat /proc/cpuinfo",
                   env=os.environ | {"XDG_CACHE_HOME": str(self.directory / "cache")})
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        if re.search(r"\bla57\b", Path("/proc/cpuinfo").read_text()):
            self.assertRegex(done.stdout.decode(), r"\bla57\b")
        return done.stdout.decode().split()[0]

    def test_unpacked(self):
        addresses = {self.address(), self.address()}
        self.assertNotEqual(addresses, {self.LINKED_AT})
        directory = self.directory / "cache/minivmm/kernels"
        kept, = directory.iterdir()
        self.assertEqual((directory.stat().st_mode & 0o777, kept.stat().st_mode & 0o777),
                         (0o700, 0o400))
        self.assertEqual(kept.read_bytes()[:4], b"\x7fELF")
        self.assertEqual(self.address("--cmdline", "nokaslr"), self.LINKED_AT)

        kept.chmod(0o600)
        kept.write_bytes(bytes(kept.stat().st_size))
        self.assertEqual(self.address("--cmdline", "nokaslr"), self.LINKED_AT)


class Panics(Ends):
    def test_panics(self):
        self.check_ends(PANICS)


class Matrix(unittest.TestCase):
    def test_two_kernels(self):
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory) / "report.json"
            done = run("-j", "2", "--json", report, "--", "sh", "-c",
                       "echo one; echo two >&2; case $(uname -r) in *cloud*) exit 0;; esac; exit 5",
                       flavours=("cloud", "generic"))
            runs = json.loads(report.read_text())
        both = [version("cloud"), version("generic")]
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(sorted(done.stdout.decode().splitlines()),
                         sorted(f"{each}: one" for each in both))
        errors = done.stderr.decode().splitlines()
        self.assertEqual(sorted(errors[:2]), sorted(f"{each}: two" for each in both))
        self.assertRegex(errors[2], r"^kernel +seconds +result$")
        self.assertRegex(errors[3], rf"^{re.escape(both[0])} +[\d.]+ +exit 0$")
        self.assertRegex(errors[4], rf"^{re.escape(both[1])} +[\d.]+ +exit 5$")
        self.assertEqual([(each["version"], each["exit"]) for each in runs],
                         [(both[0], 0), (both[1], 5)])


def uki(kernel: bytes) -> bytes:
    """A unified kernel image: an EFI program with a kernel in its section .linux."""
    head = bytearray(4096)
    struct.pack_into("<2s58xI", head, 0, b"MZ", 0x80)
    struct.pack_into("<4sHH12xH", head, 0x80, b"PE", 0, 1, 240)
    struct.pack_into("<8s4I", head, 0x80 + 24 + 240, b".linux", len(kernel), 0, len(kernel),
                     len(head))
    return bytes(head) + kernel


class UnifiedKernelImage(unittest.TestCase):
    def test_run(self):
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "linux.efi"
            file.write_bytes(uki(kernel().read_bytes()))
            done = run("--verbose", "--kernel", file, "--modules", kernel().parent.parent,
                       "uname", "-r", flavours=())
        self.assertEqual((done.returncode, done.stdout.decode()), (0, version() + "\n"),
                         done.stderr)
        self.assertTrue(done.stderr.startswith(f"minivmm: kernel {version()}: {file}\n".encode()),
                        done.stderr[:1000])


class Terminal(unittest.TestCase):
    """All three streams are a terminal of 33 rows and 99 columns."""

    def setUp(self):
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        termios.tcsetwinsize(self.slave, (33, 99))
        self.settings = termios.tcgetattr(self.slave)
        self.output = b""

    def start(self, *arguments: object):
        self.process = subprocess.Popen(["setsid", "--ctty", *words(*arguments)],
                                        stdin=self.slave, stdout=self.slave, stderr=self.slave)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)

    def wait_for(self, wanted: bytes):
        deadline = time.monotonic() + LIMIT
        while wanted not in self.output and time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if select.select([self.master], [], [], 0 if ended else 1)[0]:
                self.output += os.read(self.master, 65536)
            elif ended:
                break
        self.assertIn(wanted, self.output)
        self.output = self.output.partition(wanted)[2]

    def finish(self) -> int:
        status = self.process.wait(LIMIT)
        self.assertEqual(termios.tcgetattr(self.slave), self.settings)
        os.close(self.slave)
        return status

    def test_terminal(self):
        self.start("sh", "-c", "trap 'caught=1; echo caught' INT; stty size; tty; "
                   "readlink /proc/self/fd/0; echo go; read x; "
                   "echo [$x]; until stty size | grep -v '33 99'; do sleep 0.1; done; "
                   "echo again; until [ $caught ]; do sleep 1; done; "
                   "trap '' INT; echo after; sleep 1000")
        self.wait_for(b"33 99\r\n/dev/hvc0\r\n/dev/hvc0\r\ngo\r\n")
        termios.tcsetwinsize(self.slave, (44, 55))
        os.write(self.master, b"typed\r")
        self.wait_for(b"[typed]\r\n44 55\r\nagain\r\n")
        os.write(self.master, b"\x03")
        self.wait_for(b"caught\r\nafter\r\n")
        time.sleep(3)  # so that the next Ctrl-C does not count as the second
        os.write(self.master, b"\x03")
        time.sleep(1)
        self.assertIsNone(self.process.poll())
        os.write(self.master, b"\x03\x03")  # in one write, so that a slow host cannot separate them
        self.wait_for(b"ended by a signal: Interrupt")
        self.assertEqual(self.finish(), 128 + signal.SIGINT)

    def test_interrupted_while_it_boots(self):
        """Before the command runs, a single Ctrl-C is enough."""
        report = Path(self.enterContext(tempfile.TemporaryDirectory())) / "report.json"
        self.start("--json", report, "sleep", "1000")
        while termios.tcgetattr(self.slave) == self.settings:
            time.sleep(0.01)
        began = time.monotonic()
        os.write(self.master, b"\x03")
        self.wait_for(b"ended by a signal: Interrupt")
        self.assertEqual(self.finish(), 128 + signal.SIGINT)
        self.assertLess(time.monotonic() - began, 60)
        self.assertIsNone(json.loads(report.read_text())["ms"]["command"])

    def test_machine_is_killed(self):
        """If the machine is killed, the terminal is restored and the run fails."""
        self.start("sh", "-c", "echo go; sleep 1000")
        self.wait_for(b"go\r\n")
        os.kill(children(self.process.pid)[0], signal.SIGKILL)
        self.wait_for(b"was killed by a signal: Killed")
        self.assertEqual(self.finish(), 125)

