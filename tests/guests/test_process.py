# SPDX-License-Identifier: MIT
"""minivmm as a process: refused options, signals, file descriptors, many at once, SIGKILL."""

import contextlib
import ctypes
import errno
import fcntl
import gzip
import itertools
import os
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from unittest import mock

import vmm
from vmm import (CONFINED, MACHINE, MINIVMM, GuestTest, command, cpu_seconds, only_on, output_lines, payload, text,
                 wait_until, wait_until_noticed)

USAGE = 2
FAILED = 125
NOBODY = 65534

# Numbers on x86_64 and aarch64.
SYSTEM_CALLS = {"unshare": (272, 97), "io_uring_setup": (425, 425), "capset": (126, 91),
                "landlock_create_ruleset": (444, 444), "landlock_restrict_self": (446, 446),
                "seccomp": (317, 277), "openat2": (437, 437), "close_range": (436, 436),
                "statx": (332, 291), "clone3": (435, 435), "prctl": (157, 167)}
PR_SCHED_CORE = 62

# Offset and value of the magic number of the other architecture's kernels.
FOREIGN = {"x86_64": (56, b"ARM\x64", "arm64"), "aarch64": (0x202, b"HdrS", "x86")}


def elf(machine: int) -> bytes:
    """An ELF64 executable for another architecture: only the header."""
    return struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, machine, 1, 0x100000,
                       64, 0, 0, 64, 56, 0, 0, 0, 0) + bytes(4096)


def uki(kernel: bytes, size: int) -> bytes:
    """A unified kernel image: an EFI program with SIZE bytes of a kernel in its section .linux."""
    head = bytearray(4096)
    struct.pack_into("<2s58xI", head, 0, b"MZ", 0x80)
    struct.pack_into("<4sHH12xH", head, 0x80, b"PE", 0, 2, 240)
    for index, name, offset in (0, b".text", 512), (1, b".linux", len(head)):
        struct.pack_into("<8s4I", head, 0x80 + 24 + 240 + 40 * index, name, size, 0, size, offset)
    return bytes(head) + kernel


class Kernels(GuestTest):
    def test_unified_kernel_image(self):
        kernel = payload("hello").read_bytes()
        path = self.file("hello.efi", uki(kernel, len(kernel)) + b"another section")
        done = self.run_vmm(command(None, "--kernel", path))
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, b"hello from the guest\n", b""))


class Refusals(GuestTest):
    """A refusal prints one line with the cause, has the right status, and creates no file."""

    def check_refused(self, status: int, *words: str, options: list[object] = [],
                      name: str | None = "hello", **more):
        before = sorted(self.directory.rglob("*"))
        done = self.run_vmm(command(name, *options), **more)
        self.check_status(done, status)
        self.check_one_line(done.stderr, *words)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(sorted(self.directory.rglob("*")), before)

    def check_kernel_refused(self, path: Path, *words: str):
        for options in [], ["--dry-run"]:
            with self.subTest(kernel=path.name, options=options):
                self.check_refused(FAILED, str(path), *words, name=None,
                                   options=["--kernel", path, *options])

    def test_kernel(self):
        image = payload("hello").read_bytes()
        offset, magic, name = FOREIGN[MACHINE]
        foreign = bytearray(4096)
        foreign[offset:offset + len(magic)] = magic
        os.mkfifo(self.directory / "fifo")
        (self.directory / "folder").mkdir()
        self.check_kernel_refused(self.directory / "missing", "No such file")
        self.check_kernel_refused(self.directory / "folder", "directory")
        self.check_kernel_refused(self.directory / "fifo", "regular file")
        self.check_kernel_refused(self.file("empty"), "empty")
        self.check_kernel_refused(self.file("one-byte", b"\x7f"))
        self.check_kernel_refused(self.file("truncated-header", image[:40]))
        if MACHINE == "aarch64":  # a plain Image does not contain the file's length
            image = gzip.compress(image)
        self.check_kernel_refused(self.file("truncated", image[:len(image) // 2]))
        self.check_kernel_refused(self.file("text", b"just some words\n" * 100), "text")
        self.check_kernel_refused(self.file("foreign", bytes(foreign)), name)
        self.check_kernel_refused(self.file("arm64-elf", elf(183)), "arm64")
        self.check_kernel_refused(self.file("zeroes", bytes(8192)), "kernel")
        self.check_kernel_refused(Path("/bin/sh"), "program")
        self.check_kernel_refused(self.file("uki", uki(image, 1 << 30)), "damaged")
        self.check_kernel_refused(self.file("uki-of-text", uki(b"words\n" * 100, 600)), "text")

    def test_kernel_not_given(self):
        self.check_refused(USAGE, "--kernel", name=None)

    def test_initrd(self):
        self.check_refused(FAILED, "missing", options=["--initrd", "missing"])
        big = self.file("big")
        os.truncate(big, 64 << 20)
        self.check_refused(FAILED, str(big), "--memory",
                           options=["--initrd", big, "--memory", "32M"])

    def test_share(self):
        self.check_refused(USAGE, "share .", "tag=NAME", options=["--share", "."])
        self.check_refused(FAILED, "share missing", "No such file",
                           options=["--share", "missing,tag=a"])
        self.check_refused(FAILED, "share /dev/null", "directory",
                           options=["--share", "/dev/null,tag=a"])
        self.check_refused(FAILED, "share /proc", "not shared",
                           options=["--share", "/proc,tag=a,rw"])

    def test_memory(self):
        self.check_refused(USAGE, "--memory", options=["--memory", "1M"])
        self.check_refused(USAGE, "--memory", options=["--memory", "99999999T"])
        self.check_refused(USAGE, "--memory", options=["--memory", "much"])
        self.check_refused(FAILED, "--memory", options=["--memory", "16T"])

    def test_cpus(self):
        self.check_refused(USAGE, "--cpus", options=["--cpus", "0"])
        self.check_refused(USAGE, "--cpus", options=["--cpus", "100000"])
        self.check_refused(FAILED, "--cpus", options=["--cpus", "1000"])

    def test_option(self):
        self.check_refused(USAGE, "--frobnicate", options=["--frobnicate"])
        self.check_refused(USAGE, "colour", options=["--disk", "x,colour=red"])
        self.check_refused(USAGE, "--timeout", options=["--timeout", "soon"])

    def test_disk(self):
        (self.directory / "folder").mkdir()
        os.mkfifo(self.directory / "fifo")
        cases = {
            "missing": ["No such file"],
            "folder": ["directory"],
            "fifo": ["regular file"],
            self.file("empty"): ["empty"],
            self.file("odd", bytes(1000)): ["512"],
            "/dev/null": ["regular file"],
            self.file("qcow2", b"QFI\xfb\0\0\0\3" + bytes(4088)): ["qcow2", "qemu-img", "format=raw"],
        }
        for disk, words in cases.items():
            with self.subTest(disk=disk):
                self.check_refused(FAILED, str(disk), *words, options=["--disk", disk])

    def test_disk_given_twice(self):
        disk = self.disk()
        self.check_refused(FAILED, str(disk), "use", options=["--disk", disk, "--disk", disk])

    def test_disk_given_twice_by_another_name(self):
        disk = self.disk()
        os.link(disk, self.directory / "link.img")
        self.check_refused(FAILED, "link.img", "use",
                           options=["--disk", disk, "--disk", "link.img,ro"])

    def test_disk_of_another_vm(self):
        disk = self.disk()
        with self.running("end", "--disk", disk, cmdline="stop") as process:
            self.assertEqual(process.first_line, b"stop\n")
            self.check_refused(FAILED, str(disk), "use", options=["--disk", disk])
            self.check_refused(FAILED, str(disk), "use", options=["--disk", f"{disk},ro"])

    def test_disk_shared_by_readers(self):
        disk = self.disk()
        with self.running("end", "--disk", f"{disk},ro", cmdline="stop"):
            self.check_passes("hello", "--disk", f"{disk},ro")

    def test_port_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.check_refused(FAILED, str(port),
                               options=["--net", f"user,hostfwd=tcp::{port}-:80"])

    def test_tap(self):
        self.check_refused(FAILED, "tap", options=["--net", "tap,name=nosuchtap0"])
        with self.file("plain").open("r+b") as file:
            self.check_refused(FAILED, options=["--net", f"tap,fd={file.fileno()}"],
                               pass_fds=[file.fileno()])

    def test_console_that_cannot_be_written(self):
        self.check_refused(FAILED, "/nowhere/console",
                           options=["--console", "file=/nowhere/console"])

    def test_pipes_that_nobody_reads(self):
        """No reader is waited for."""
        pipe = self.directory / "DSDT.aml"
        os.mkfifo(pipe)
        dump = (["--dump-acpi", self.directory] if MACHINE == "x86_64" else
                ["--dump-dtb", pipe])
        for options in (["--serial", f"file={pipe}"], ["--console", f"file={pipe}"],
                        ["--console", f"file={pipe},append"], dump):
            with self.subTest(options=options):
                self.check_refused(FAILED, str(pipe), "reader", options=options)
        done = self.run_vmm([str(MINIVMM), "run", "--json", str(pipe), "true"])
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, str(pipe), "reader")


class Kvm(GuestTest):
    def test_no_kvm(self):
        words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh",
                 *command("hello")]
        if subprocess.run([*words[:5], "sh", "true"], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no mount namespace to hide /dev/kvm in")
        done = self.run_vmm(words)
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "/dev/kvm")

    def test_no_permission(self):
        """The message names the group. Runs from a directory that other users may enter."""
        if os.geteuid() or os.stat("/dev/kvm").st_mode & 0o006:
            self.skipTest("needs root, and a /dev/kvm that is not everybody's")
        with tempfile.TemporaryDirectory(prefix="guests-", dir="/tmp") as directory:
            os.chmod(directory, 0o755)
            words = command("hello")
            for index, source in ((0, vmm.MINIVMM), (words.index("--kernel") + 1,
                                                     payload("hello"))):
                words[index] = shutil.copy(source, directory)
            done = subprocess.run(words, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[],
                                  capture_output=True, stdin=subprocess.DEVNULL)
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "/dev/kvm", "group", "kvm")


class Containers(GuestTest):
    """System calls that a container may forbid, by EPERM or, if it does not know them, ENOSYS."""

    @staticmethod
    def forbid(error: int, *names: str, prctl: int | None = None):
        """A function for preexec_fn, which installs a seccomp filter. PRCTL: only this of prctl()."""
        allow, fail = 0x7fff0000, 0x50000 | error
        program = struct.pack("<HBBI", 0x20, 0, 0, 0)  # load the number
        for name in names:
            program += struct.pack("<HBBI", 0x15, 0, 1, SYSTEM_CALLS[name][MACHINE == "aarch64"])
            program += struct.pack("<HBBI", 0x06, 0, 0, fail)
        if prctl:
            program += struct.pack("<HBBI", 0x15, 0, 3, SYSTEM_CALLS["prctl"][MACHINE == "aarch64"])
            program += struct.pack("<HBBI", 0x20, 0, 0, 16)  # load the first argument
            program += struct.pack("<HBBI", 0x15, 0, 1, prctl)
            program += struct.pack("<HBBI", 0x06, 0, 0, fail)
        program += struct.pack("<HBBI", 0x06, 0, 0, allow)
        filters = ctypes.create_string_buffer(program)
        whole = ctypes.create_string_buffer(
            struct.pack("<H6xQ", len(program) // 8, ctypes.addressof(filters)))
        libc = ctypes.CDLL(None)

        def install(keep=filters):
            libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            if libc.prctl(22, 2, whole):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
                os._exit(1)

        return install

    def boot_without(self, error: int, *names: str, sandbox: str = "auto"):
        (self.directory / "shared").mkdir(exist_ok=True)
        (self.directory / "disk").write_bytes(bytes(1 << 20))
        return self.boot("hello", "--disk", "disk", "--share", "shared,rw", "--sandbox", sandbox,
                         preexec_fn=self.forbid(error, *names))

    def test_what_is_forbidden_is_not_missed(self):
        names = ["unshare", "io_uring_setup", "landlock_create_ruleset", "landlock_restrict_self",
                 "capset", "seccomp"]
        for error in (errno.EPERM, errno.ENOSYS):
            with self.subTest(error=errno.errorcode[error]):
                done = self.boot_without(error, *names)
                self.check_status(done, 0)
                self.assertEqual(done.stdout, b"hello from the guest\n")
                if CONFINED:
                    self.check_one_line(done.stderr, "confined without", "Landlock", "--sandbox=on")
                done = self.boot_without(error, *names, sandbox="off")
                self.assertEqual((done.returncode, done.stdout, done.stderr),
                                 (0, b"hello from the guest\n", b""))

    def test_a_sandbox_that_must_be_complete(self):
        if not CONFINED:
            self.skipTest("built with sanitizers, which the sandbox would stop")
        for mode in "on", "strict":
            with self.subTest(mode):
                done = self.boot_without(errno.ENOSYS, "landlock_create_ruleset", sandbox=mode)
                self.check_status(done, FAILED)
                self.check_one_line(done.stderr, "--sandbox", "Landlock")

    @only_on("x86_64", "libc uses clone3() there only since 2.37")
    def test_threads_in_a_container_older_than_clone3(self):
        """libc takes clone() instead, but only if clone3() fails with ENOSYS."""
        for sandbox in "off", "auto":
            with self.subTest(sandbox=sandbox):
                done = self.boot_without(errno.ENOSYS, "clone3", sandbox=sandbox)
                self.assertEqual((done.returncode, done.stdout, done.stderr),
                                 (0, b"hello from the guest\n", b""))
                done = self.boot_without(errno.EPERM, "clone3", sandbox=sandbox)
                self.check_status(done, FAILED)
                self.check_one_line(done.stderr, "thread", "seccomp", "clone3()", "ENOSYS")

    def test_descriptors_are_closed_nevertheless(self):
        """Forgotten ones in minivmm, and in minivmm-net also those that an option names."""
        if os.geteuid():
            self.skipTest("needs root, to whom alone they show their descriptors")
        pipes = [os.pipe() for _ in range(300)]
        writers = [writer for _, writer in pipes]
        names = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in writers}
        for error in (errno.EPERM, errno.ENOSYS):
            with (self.subTest(error=errno.errorcode[error]),
                  self.running("button", "--net", "user", "--console", f"fd={writers[200]}",
                               pass_fds=writers,
                               preexec_fn=self.forbid(error, "close_range")) as process):
                self.assertEqual(process.first_line, b"ready\n")
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                for pid, kept in (process.pid, {writers[200]}), *((pid, set()) for pid in
                                                                  children.split()):
                    held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
                    self.assertEqual({fd for fd, name in names.items() if name in held}, kept)
        for fd in itertools.chain(*pipes):
            os.close(fd)

    def test_core_scheduling_is_asked_for(self):
        """Most hosts do not have it: the filter's error shows that the call is made."""
        done = self.boot("hello", "--log-level", "debug",
                         preexec_fn=self.forbid(errno.ENOTTY, prctl=PR_SCHED_CORE))
        self.check_status(done, 0)
        self.assertIn(f"no core scheduling: {os.strerror(errno.ENOTTY)}", done.stderr.decode())

    def test_what_is_needed_is_named(self):
        for error in (errno.EPERM, errno.ENOSYS):
            with self.subTest(error=errno.errorcode[error]):
                done = self.boot_without(error, "openat2")
                self.check_status(done, FAILED)
                self.check_one_line(done.stderr, "share shared", "needs openat2()", "seccomp")
        done = self.boot_without(errno.EPERM, "statx")  # without it libc has another way
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "share shared", "needs statx()", "seccomp")


class Sandbox(GuestTest):
    """What each thread of a running machine has given up."""

    def check_threads(self, mode: str, *options: str, user: int | None = None, **more):
        user = os.geteuid() if user is None else user
        (self.directory / "shared").mkdir(exist_ok=True)
        (self.directory / "disk").write_bytes(bytes(1 << 20))
        for path in self.directory, self.directory / "shared", self.directory / "disk":
            os.chown(path, user, -1)
        with self.running("button", "--cpus", "2", "--disk", "disk", "--share", "shared",
                          "--sandbox", mode, *options, **more) as process:
            statuses = [path.read_text() for path in
                        Path(f"/proc/{process.pid}/task").glob("*/status")]
            self.assertGreaterEqual(len(statuses), 5, process.poll() and process.stderr.read())
        for status in statuses:
            self.assertRegex(status, r"\nNoNewPrivs:\s*1\n")
            self.assertRegex(status, r"\nSeccomp:\s*2\n")
            capabilities = int(re.search(r"\nCapPrm:\s*([0-9a-f]+)\n", status)[1], 16)
            self.assertEqual(int(re.search(r"\nUid:\s*(\d+)\s", status)[1]), user)
            self.assertIn(capabilities, (0, 0 if user else 1 << 2), status)  # CAP_DAC_READ_SEARCH

    def setUp(self):
        super().setUp()
        if not CONFINED:
            self.skipTest("built with sanitizers, which the sandbox would stop")

    def ordinary_user(self, number: int = 1234):
        """What makes check_threads() run minivmm as an ordinary user, who may open /dev/kvm."""
        if os.geteuid():
            return {}
        directory = tempfile.TemporaryDirectory(prefix="guests-", dir="/tmp")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        kvm, libc = self.directory / "kvm", ctypes.CDLL(None, use_errno=True)
        kvm.mkdir()
        for path in (vmm.MINIVMM, vmm.MINIVMM.with_name("minivmm-net"), payload("button"),
                     payload("hello")):
            if path.exists():  # from where that user may read it
                shutil.copy(path, self.directory)
        self.directory.chmod(0o755)
        for name, value in {"MINIVMM": self.directory / vmm.MINIVMM.name,
                            "GUESTS": self.directory}.items():
            change = mock.patch.object(vmm, name, value)
            change.start()
            self.addCleanup(change.stop)

        def mount(source: bytes, target: Path, kind: bytes | None, flags: int):
            if libc.mount(source, bytes(target), kind, flags, None):
                raise OSError(ctypes.get_errno(), "mount")

        def own_kvm(device=os.stat("/dev/kvm").st_rdev):
            """In a mount namespace, as it may be another user's on the host."""
            if libc.unshare(0x20000):  # CLONE_NEWNS
                raise OSError(ctypes.get_errno(), "unshare")
            mount(b"none", Path("/"), None, 0x44000)  # MS_REC | MS_PRIVATE
            mount(b"none", kvm, b"tmpfs", 0)
            os.mknod(kvm / "kvm", 0o600 | stat.S_IFCHR, device)
            os.chown(kvm / "kvm", number, -1)
            mount(bytes(kvm / "kvm"), Path("/dev/kvm"), None, 0x1000)  # MS_BIND
            os.setgroups([])
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
        return {"preexec_fn": own_kvm, "user": number}

    def test_scarce_descriptors(self):
        """The guest runs confined, or not at all."""
        for most in range(20, 100):
            done = self.boot("hello", "--disk", self.disk(), "--share", ".,tag=x", preexec_fn=lambda:
                             resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
            if done.returncode == 0:
                self.assertEqual(done.stderr, b"")
                break
            self.assertNotIn("confined without", text(done.stderr))
            self.check_status(done, FAILED)
        self.assertEqual(done.returncode, 0)

    def test_every_thread(self):
        self.check_threads("auto")

    def test_every_thread_with_namespaces(self):
        if self.boot("hello", "--sandbox", "strict").returncode:
            self.skipTest("this host does not allow namespaces, or lacks Landlock")
        self.check_threads("strict")

    def test_every_thread_of_an_ordinary_user(self):
        self.check_threads("on", "--net", "user", **self.ordinary_user())

    def test_every_thread_of_an_ordinary_user_with_namespaces(self):
        user = self.ordinary_user()
        if self.boot("hello", "--sandbox", "strict", preexec_fn=user.get("preexec_fn")).returncode:
            self.skipTest("this host does not allow an ordinary user namespaces, or lacks Landlock")
        self.check_threads("strict", "--net", "user", **user)

    def test_nobody_traces_it(self):
        """The kernel then shows the process as root's, whoever's it is."""
        group = {} if os.geteuid() else {"group": NOBODY}
        with self.running("button", **group) as process:
            status = Path(f"/proc/{process.pid}/limits").read_text()
            self.assertRegex(status, r"Max core file size\s+0\s+0")
            owner = os.stat(f"/proc/{process.pid}/mem")
            self.assertEqual((owner.st_uid, owner.st_gid), (0, 0))


class Neighbours(GuestTest):
    """Other users, who may write into the directory where minivmm lies."""

    def check_not_executed(self, plant):
        if os.geteuid():
            self.skipTest("needs root, to make another user's file")
        program, planted = self.directory / "minivmm", self.directory / "minivmm-net"
        shutil.copy(MINIVMM, program)
        plant(planted)
        os.chown(planted, 1234, 1234, follow_symlinks=False)
        words = command("hello")
        words[0] = str(program)
        for options in [], ["--net", "user"]:
            done = self.run_vmm([program, *words[3:], *options])
            self.assertFalse((self.directory / "executed").exists())
            self.assertIn(f"{planted} belongs to neither", text(done.stderr))
            self.check_status(done, FAILED if options else 0)
        planted.unlink()

    def test_what_is_dumped_is_the_users(self):
        """A writable share needs a process without a umask."""
        (self.directory / "shared").mkdir()
        dump = ["--dump-acpi", "tables"] if MACHINE == "x86_64" else ["--dump-dtb", "tables"]
        self.check_passes("hello", "--share", "shared,rw", *dump, umask=0o022)
        tables = self.directory / "tables"
        files = list(tables.iterdir()) if tables.is_dir() else [tables]
        self.assertEqual({file.stat().st_mode & 0o777 for file in files}, {0o600})

    def test_a_planted_program(self):
        def plant(path: Path):
            path.write_text("#!/bin/sh\n: > executed\n")
            path.chmod(0o755)
        self.check_not_executed(plant)

    def test_a_planted_link(self):
        self.check_not_executed(lambda path: path.symlink_to("/bin/sh"))


class Signals(GuestTest):
    def check_ends(self, process, status: int, limit: float = vmm.TIME_LIMIT):
        start = time.monotonic()
        self.assertEqual(process.wait(limit), status)
        return time.monotonic() - start

    def test_guest_powers_off(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number), self.running("button") as process:
                process.send_signal(number)
                self.check_ends(process, 0)
                self.assertEqual(process.stdout.read(), b"pressed\n")

    def test_grace_is_over(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with (self.subTest(number),
                  self.running("end", "--grace", "200ms", cmdline="stop") as process):
                process.send_signal(number)
                self.check_ends(process, 128 + number)

    def test_second_signal_does_not_wait(self):
        with self.running("end", "--grace", "1h", cmdline="spin") as process:
            process.send_signal(signal.SIGTERM)
            wait_until_noticed(process)
            time.sleep(0.1)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGTERM)
            self.check_ends(process, 128 + signal.SIGTERM)

    def test_ignored_signals(self):
        with self.running("button") as process:
            for number in (signal.SIGWINCH, signal.SIGCONT, signal.SIGPIPE, signal.SIGUSR1):
                process.send_signal(number)
            wait_until_noticed(process)
            time.sleep(0.1)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGTERM)
            self.check_ends(process, 0)

    def test_signals_that_the_parent_has_blocked(self):
        """Among them the one that makes a vCPU leave the guest, and SIGTERM."""
        def block():
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())

        with self.running("end", "--cpus", "2", "--grace", "1ms", cmdline="spin",
                          preexec_fn=block) as process:
            process.terminate()
            self.check_ends(process, 128 + signal.SIGTERM)
            self.assertEqual(process.stderr.read(), b"")  # not: a vCPU does not answer

    def test_children_that_the_parent_ignores(self):
        """A kernel that is cut off is not taken for a whole one."""
        packed = gzip.compress(os.urandom(100000) + payload("hello").read_bytes())
        kernel = self.file("kernel.gz", packed[:len(packed) // 2])
        done = self.run_vmm(command(None, "--kernel", kernel), preexec_fn=lambda: signal.signal(
            signal.SIGCHLD, signal.SIG_IGN))
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "truncated")

    def test_terminated_during_start(self):
        """At any time: no hang, no other status, the disk is unlocked."""
        disk = self.disk()
        words = command("end", "--grace", "1ms", "--disk", disk, "--cpus", "2", cmdline="stop")
        for delay in range(16):
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE)
            time.sleep(0.002 * delay)
            process.terminate()
            stderr = process.communicate(timeout=vmm.TIME_LIMIT)[1]
            self.assertIn(process.returncode, (-signal.SIGTERM, 128 + signal.SIGTERM), text(stderr))
        self.check_passes("hello", "--disk", disk)

    def test_killed(self):
        """No file and no lock remain, and the disk has the flushed data."""
        disk = self.disk()
        self.check_passes("blk", "--disk", disk)
        content = disk.read_bytes()
        with self.running("end", "--disk", disk, "--net", "user", "--cpus", "2",
                          cmdline="spin") as process:
            process.kill()
            self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertEqual(list(self.directory.iterdir()), [disk])
        self.assertEqual(disk.read_bytes(), content)
        self.check_passes("hello", "--disk", disk)


class Unanswered(GuestTest):
    """Files that cannot be opened yet, because another process has a lease on them."""

    def leased(self, name: str) -> Path:
        path = self.file(name, bytes(8192))
        lease = open(path, "r+b")
        self.addCleanup(lease.close)
        self.addCleanup(signal.signal, signal.SIGIO, signal.signal(signal.SIGIO, signal.SIG_IGN))
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return path

    def commands(self):
        file = self.leased("file")
        yield command("hello", "--disk", file)
        yield command(None, "--kernel", file)
        yield command("hello", "--initrd", file)
        yield command("hello", "--serial", f"file={file}")
        yield command(None, "--kernel", file, "--dry-run")
        yield [str(MINIVMM), "run", "--kernel", str(file), "true"]
        yield [str(MINIVMM), "run", "--json", str(file), "true"]

    @staticmethod
    def waits(process: subprocess.Popen) -> bool:
        return "lease" in Path(f"/proc/{process.pid}/wchan").read_text()

    def test_signals_are_heard(self):
        for words in self.commands():
            for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
                with (self.subTest(words=words, number=number),
                      subprocess.Popen(words, cwd=self.directory) as process):
                    wait_until(lambda: self.waits(process), "it to wait for the lease")
                    process.send_signal(number)
                    self.assertEqual(process.wait(vmm.TIME_LIMIT), -number)

    def test_the_timeout_is_heard(self):
        processes = []
        for program, *words in self.commands():
            at = words.count("run")
            processes.append(subprocess.Popen(
                [program, *words[:at], "--timeout", "1ms", *words[at:]], cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        for process in processes:
            with self.subTest(words=process.args):
                said = process.communicate(timeout=vmm.TIME_LIMIT)[1]
                self.assertEqual(process.returncode, 124)
                self.check_one_line(said, "--timeout", "opened")


class Descriptors(GuestTest):
    HELLO = b"hello from the guest\n"

    def close(self, *descriptors: int):
        def close():
            for descriptor in descriptors:
                os.close(descriptor)
        return close

    def test_none_open(self):
        """A file that minivmm opens must not become standard input, output or error."""
        disk = self.disk()
        words = command("end", "--disk", disk, "--grace", "1ms", cmdline="stop")
        if os.geteuid():  # in a sandbox it shows its descriptors to root only
            words += ["--sandbox", "off"]
        process = subprocess.Popen(words, preexec_fn=self.close(0, 1, 2))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def names() -> dict[str, str]:
            found = {}
            for fd in os.listdir(f"/proc/{process.pid}/fd"):
                with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                    found[fd] = os.readlink(f"/proc/{process.pid}/fd/{fd}")
            return found
        wait_until(lambda: "anon_inode:kvm-vcpu:0" in names().values(), "a vCPU")
        standard = [names().get(fd, "/dev/null") for fd in "012"]
        process.terminate()
        process.wait(vmm.TIME_LIMIT)
        self.assertEqual(standard, ["/dev/null"] * 3)
        self.assertEqual(disk.read_bytes(), bytes(2048 * 512))

    def test_descriptors_that_are_not_open(self):
        """Nor may they be ones that minivmm opens itself, whose numbers start at 3."""
        options = {"serial": "--serial=fd={}", "console": "--console=fd={}",
                   "port a": "--port=name=a,fd={}", "net tap": "--net=tap,fd={}",
                   "disk": "--disk=/dev/fd/{}", "initrd": "--initrd=/proc/self/fd/{}"}
        for name, option in options.items():
            for number in (3, 4, 9, 255):
                with self.subTest(option=option, number=number):
                    done = self.boot("hello", option.format(number))
                    self.check_status(done, FAILED)
                    self.check_one_line(done.stderr, f"{name}: descriptor {number} is not open")
                    self.assertEqual(done.stdout, b"")

    def test_path_of_a_descriptor(self):
        """Output to /dev/fd/3 would truncate the kernel, if that had descriptor 3."""
        kernel = self.file("kernel", payload("hello").read_bytes())
        content = kernel.read_bytes()
        for number in range(3, 12):
            done = self.run_vmm(command(None, "--kernel", kernel, "--serial",
                                        f"file=/dev/fd/{number}"))
            self.check_status(done, FAILED)
            self.check_one_line(done.stderr, f"serial: descriptor {number} is not open")
        self.assertEqual(kernel.read_bytes(), content)
        with self.file("log").open("wb") as log:
            self.check_passes("hello", "--serial", f"file=/dev/fd/{log.fileno()}",
                              pass_fds=[log.fileno()])
        self.assertEqual((self.directory / "log").read_bytes(), self.HELLO)

    def test_standard_descriptors_that_are_not_open(self):
        for number in (0, 1):
            done = self.run_vmm(command("hello", "--serial", f"fd={number}"), stdin=None,
                                stdout=None, preexec_fn=self.close(number))
            self.check_status(done, FAILED)
            self.check_one_line(done.stderr, f"serial: descriptor {number} is not open")

    def test_run(self):
        """minivmm run checks them, too, and its report gets no line meant for standard error."""
        words = [str(vmm.MINIVMM), "run", "--json", "report", "--net", "tap,fd=3", "true"]
        done = self.run_vmm(words)
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "net tap: descriptor 3 is not open")
        report = (self.directory / "report").read_bytes()
        self.assertIn(b"net tap: descriptor 3 is not open", report)
        done = self.run_vmm(words, stdin=None, stdout=None, stderr=None,
                            preexec_fn=self.close(0, 1, 2))
        self.check_status(done, FAILED)
        self.assertEqual((self.directory / "report").read_bytes(), report)

    def test_forgotten_descriptors_are_closed(self):
        """All but those that an option names, by number or path."""
        named, path = self.file("named"), self.disk("path")
        descriptors = [os.open(named, os.O_WRONLY), os.open(path, os.O_RDWR)]
        reader, writer = os.pipe()
        options = ["--serial", f"fd={descriptors[0]}", "--disk", f"/dev/fd/{descriptors[1]}"]
        process = subprocess.Popen(command("end", *options, cmdline="spin"),
                                   stdin=subprocess.DEVNULL, pass_fds=[writer, *descriptors])
        os.close(writer)
        try:
            self.assertEqual(os.read(reader, 1), b"")  # its end, while the guest runs
            wait_until(lambda: named.read_bytes()[:4] == b"spin", "the guest's output")
            self.assertIsNone(process.poll())
        finally:
            process.kill()
            process.wait()
        os.close(reader)
        for descriptor in descriptors:
            os.close(descriptor)

    def test_input_closed(self):
        done = self.boot("hello", stdin=None, preexec_fn=self.close(0))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, self.HELLO, b""))

    def test_input_at_its_end_uses_no_cpu(self):
        reader, writer = os.pipe()
        os.close(writer)
        sources = {"null": os.open(os.devnull, os.O_RDONLY), "ended pipe": reader,
                   "file": os.open(self.file("input"), os.O_RDONLY)}
        for name, source in sources.items():
            with (self.subTest(name),
                  self.running("end", stdin=source, cmdline="stop") as process):
                os.close(source)
                before = cpu_seconds(process.pid)
                time.sleep(0.5)
                self.assertLess(cpu_seconds(process.pid) - before, 0.1)

    def test_output_closed(self):
        done = self.boot("hello", stdout=None, preexec_fn=self.close(1))
        self.check_status(done, 0)
        self.check_one_line(done.stderr, "Bad file descriptor")

    def test_text_that_cannot_be_written(self):
        """Whoever asks for a text gets it, or is told."""
        for words in [MINIVMM, "--help"], [MINIVMM, "--version"], [MINIVMM, "run", "--help"], \
                command("hello", "--dry-run"):
            with self.subTest(words=words[1:]), open("/dev/full", "wb") as full:
                done = self.run_vmm(words, stdout=full)
                self.check_status(done, FAILED)
                self.check_one_line(done.stderr, "No space left")
                done = self.run_vmm(words, stdout=None, preexec_fn=self.close(1))
                self.check_status(done, FAILED)
                self.check_one_line(done.stderr, "Bad file descriptor")

    def test_output_full(self):
        with open("/dev/full", "wb") as full:
            done = self.boot("output", stdout=full, cmdline="serial 2")
        self.check_status(done, 0)
        self.check_one_line(done.stderr, "No space left")

    def test_output_without_reader(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = self.boot("output", stdout=writer, cmdline="serial 2")
        os.close(writer)
        self.check_status(done, 0)

    def check_slow_reader(self, cmdline: str, lines: int, *options: str):
        with subprocess.Popen(command("output", *options, cmdline=f"{cmdline} {lines}"),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            got = b""
            time.sleep(0.5)
            while piece := process.stdout.read1(1 << 16):
                got += piece
                time.sleep(0.0005)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(len(got), lines * vmm.LINE)
        self.assertEqual(got, output_lines(lines))

    def test_slow_reader_of_the_serial_port(self):
        self.check_slow_reader("serial", 20)

    def test_slow_reader_of_the_console(self):
        self.check_slow_reader("console", 256, "--console", "stdio")

    def test_output_into_files(self):
        self.check_passes("output", "--console", "file=console.log", cmdline="console 256")
        self.assertEqual((self.directory / "console.log").read_bytes(), output_lines(256))
        self.check_passes("output", "--serial", "file=console.log,append", cmdline="serial 2")
        self.assertEqual((self.directory / "console.log").read_bytes(),
                         output_lines(256) + output_lines(2))

    def test_output_into_a_file_with_a_limit(self):
        """The guest goes on, and a warning says so once."""
        log, most = self.directory / "console.log", 1 << 20
        done = self.boot("output", "--console", "file=console.log,max=1M", cmdline="console 300")
        self.check_status(done, 0)
        self.check_one_line(done.stderr, "max=SIZE")
        self.assertEqual(log.read_bytes(), output_lines(300)[:most])
        done = self.boot("output", "--serial", f"file={log},append,max=1M", cmdline="serial 1")
        self.check_status(done, 0)
        self.check_one_line(done.stderr, str(log), "max=SIZE")
        self.assertEqual(log.stat().st_size, most)

    def test_timeout_with_a_stalled_reader(self):
        written = b""
        for seconds in 4, 40:  # on a busy host it takes longer to fill the pipe
            reader, writer = os.pipe()
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
            done = self.boot("output", "--timeout", f"{seconds}s", stdout=writer,
                             cmdline="serial 1000")
            os.close(writer)
            self.check_one_line(done.stderr, "--timeout")  # and nothing about a vCPU that does not stop
            self.check_status(done, 124)
            written = os.read(reader, 4096)
            os.close(reader)
            if written:
                break
        self.assertNotEqual(written, b"")

    def test_descriptor_flags_are_unchanged(self):
        """O_NONBLOCK would affect all processes that share the open file, such as the shell."""
        reader, writer = os.pipe()
        before = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (reader, writer)]
        with self.running("button", stdin=reader) as process:
            self.assertEqual([fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (reader, writer)], before)
            process.terminate()
            process.wait(vmm.TIME_LIMIT)
        os.close(reader)
        os.close(writer)


class Many(GuestTest):
    def check_at_once(self, count: int):
        with contextlib.ExitStack() as stack:
            guests = [stack.enter_context(self.running(
                "button", "--disk", self.disk(f"{i}.img", 8), "--net", "user"))
                for i in range(count)]
            for guest in guests:
                self.assertEqual(guest.first_line, b"ready\n")
                self.assertIsNone(guest.poll())
            for guest in guests:
                guest.terminate()
            self.assertEqual([guest.wait(vmm.TIME_LIMIT) for guest in guests], [0] * count)

    def test_two(self):
        self.check_at_once(2)

    def test_twenty(self):
        self.check_at_once(20)
