# SPDX-License-Identifier: MIT
"""The environment that minivmm's init sets up for a command under a stock kernel."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from machine import FILES, HERE
from test_run import LIMIT, run, version, words

SCRIPT = r"""
say() { echo "$1=$2"; }
say who "$(id -u):$(id -g)"
say blocked "$(awk '/^SigBlk/ { print $2 }' /proc/self/status)"
say mounts "$(awk '$2 ~ "^/(proc|sys|dev|dev/pts|dev/shm|run|run/lock)$" { printf "%s ", $3 }' /proc/mounts)"
say kernel "$(awk '$2 ~ "^/(sys|dev)/" && $3 != "tmpfs" { print $2 }' /proc/mounts | sort | tr '\n' ' ')"
say links "$(readlink /dev/fd /dev/stdin /dev/stdout /dev/stderr | tr '\n' ' ')"
say shared "$(touch /dev/shm/x && echo yes)"
say route "$(awk '$1 == "eth0" { printf "%s>%s ", $2, $3 }' /proc/net/route)"
say names "$(cat /etc/resolv.conf)"
say host "$(uname -n)"
say directory "$(pwd)"
echo reopened >/dev/stderr
(sleep 1000 &)
exit 5
"""

# 10.0.2.2 and 10.0.2.0 as Linux prints them: in hexadecimal, in the byte order of little-endian machines.
ROUTES = "00000000>0202000A 0002000A>00000000 "


class Init(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.done = run("--net", "user", "--user", "12:34", "--cwd", "/usr", "--", "bash", "-c", SCRIPT)
        cls.said = dict(line.split("=", 1) for line in cls.done.stdout.decode().splitlines())

    def assert_said(self, **wanted: str):
        self.assertEqual({name: self.said.get(name) for name in wanted}, wanted,
                         (self.done.stdout, self.done.stderr))

    def test_ends_with_what_it_left_running(self):
        self.assertEqual(self.done.returncode, 5, self.done.stderr)

    def test_any_user_may_open_its_streams_again(self):
        self.assert_said(who="12:34")
        self.assertIn(b"reopened\n", self.done.stderr)

    def test_directory(self):
        self.assert_said(directory="/usr")

    def test_signals(self):
        self.assert_said(blocked="0" * 16)

    def test_file_systems(self):
        self.assert_said(mounts="proc sysfs devtmpfs devpts tmpfs tmpfs tmpfs ", shared="yes",
                         kernel="/dev/hugepages /dev/pts /sys/fs/bpf /sys/fs/cgroup /sys/kernel/debug "
                         "/sys/kernel/tracing ",
                         links="/proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 ")

    @unittest.skipUnless(os.geteuid() == 0, "a host of its own needs root")
    def test_names(self):
        """On a host whose name servers have IPv6 addresses only. No server is asked for the guest itself."""
        script = """if True:
            import socket
            print(socket.gethostname(), open("/etc/hostname").read().strip(), socket.getfqdn())
            print(*sorted({entry[4][0] for entry in socket.getaddrinfo("minivmm", 1)}))
            print(*{entry[4][0] for entry in socket.getaddrinfo("minivmm", 1, socket.AF_INET6)})
            print(socket.gethostbyname("other"))
            """
        with tempfile.TemporaryDirectory() as directory:
            command = ["unshare", "--mount", "--net", "python3", HERE / "boot/name_server.py", directory,
                       *words("--net", "user", "--", "python3", "-c", script)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
            self.assertEqual((done.stdout.splitlines(), done.stderr, done.returncode),
                             (["minivmm minivmm minivmm", "127.0.1.1 ::ffff:127.0.1.1", "::ffff:127.0.1.1", "192.0.2.7"], "", 0))
            asked = (Path(directory) / "asked").read_text().split()
        self.assertEqual({*asked}, {"other.lab.example"})

    def test_any_user_may_ping(self):
        done = run("--user", "12:34", "--", "ping", "-c", "1", "127.0.0.1")
        self.assertIn(b"1 received", done.stdout, done.stderr)

    def test_modules_are_loaded_when_needed(self):
        """By name, by the kernel for a kind of device, and by opening a node."""
        script = r"""
            cd /lib/modules/$(uname -r) && ls modules.dep modules.dep.bin modules.alias.bin
            modprobe -n -v veth | grep -o "$(uname -r)"
            ip link add name one type veth peer name two && cat /sys/class/net/one/operstate
            ip tuntap add dev tap mode tap && cat /sys/class/net/tap/operstate
            truncate -s 1M /tmp/image && losetup -f --show /tmp/image
            touch /lib/modules/new && echo writable
            """
        done = run("--", "sh", "-c", script)
        self.assertEqual((done.stdout.decode().split(), done.stderr, done.returncode),
                         (["modules.alias.bin", "modules.dep", "modules.dep.bin", version(), "down", "down",
                           "/dev/loop0", "writable"], b"", 0))

    def test_programs_in_run(self):
        """Systems that keep their programs below /run, and what else a guest's own /run hides."""
        with tempfile.TemporaryDirectory() as directory:
            root, store = Path(directory), Path(directory) / "store"
            for name in ("store/bin", "run/wrappers", "run/systemd", "run/lock", "proc"):
                (root / name).mkdir(parents=True)
            shutil.copy(FILES / "busybox", store / "bin/sh")
            (root / "run/current-system").symlink_to("/store")
            (root / "run/systemd/stale").touch()
            shutil.copy(FILES / "busybox", root / "run/wrappers/busybox")
            done = run("--root", root, "--", "/run/current-system/bin/sh", "-c",
                       "cd /run; b=wrappers/busybox; $b echo *; $b touch wrappers/new lock/new && $b ls wrappers")
        self.assertEqual((done.stdout, done.stderr, done.returncode),
                         (b"current-system lock wrappers\nbusybox\nnew\n", b"", 0))

    def test_network(self):
        self.assert_said(route=ROUTES, names="nameserver 10.0.2.3", host="minivmm")


class Refusals(unittest.TestCase):
    def test_kernel_without_a_driver(self):
        done = run("--modules", "none", "--", "true")
        self.assertIn(b"minivmm: this kernel has no virtio_mmio\n", done.stderr)
        self.assertNotEqual(done.returncode, 0)

    def test_directory_that_the_command_cannot_enter(self):
        """Nothing runs: in another directory it could change other files."""
        for options in (["--cwd", "/nowhere"], ["--user", "12:34", "--cwd", "/root"]):
            done = run(*options, "--", "sh", "-c", "echo it runs")
            self.assertEqual((done.returncode, done.stdout), (125, b""), done.stderr)
            self.assertRegex(done.stderr, b"--cwd, the command cannot start in " + options[-1].encode() + b": ")
