# SPDX-License-Identifier: MIT
"""Tests of the lab itself: python3 tap.py selftest.py (takes a minute)."""

import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

LAB = Path(__file__).resolve().parent
SCRIPTS = LAB.parent.parent / "scripts"
WAIT = 120  # seconds: the host may be busy
NESTED = [LAB / "lab", "run", "--lane", "nested", "--timeout", "600"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True)


class Nested(unittest.TestCase):
    def test_output_and_status_come_back(self):
        done = run(*NESTED, "--", "sh", "-c", "echo out; echo problem >&2; exit 3")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (3, "# lane: nested\nout\n", "problem\n"))

    def test_much_output(self):
        done = run(*NESTED, "--", "seq", "200000")
        self.assertEqual(done.stdout.split("\n", 1)[1],
                         "".join(f"{i}\n" for i in range(1, 200001)))

    def test_a_process_left_running_does_not_hold_the_lab(self):
        done = run(*NESTED, "--", "sh", "-c", "setsid sleep 1000 & echo out")
        self.assertEqual((done.returncode, done.stdout), (0, "# lane: nested\nout\n"))

    def test_kvm_is_native_there(self):
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run(["cc", "-o", f"{directory}/probe", LAB / "probe.c"], check=True)
            done = run(*NESTED, "--bring", f"{directory}/probe", "--", "./probe")
        self.assertEqual(done.stdout, "# lane: nested\nnative\n")

    def test_time_limit(self):
        for limit in "8", "80":  # on a busy host it takes longer until the command starts
            done = run(LAB / "lab", "run", "--lane", "nested", "--timeout", limit, "--",
                       "sh", "-c", "echo early; sleep 1000")
            if "early" in done.stdout:
                break
        self.assertEqual((done.returncode, done.stdout), (124, "# lane: nested\nearly\n"))


class Interrupted(unittest.TestCase):
    def check_nothing_left(self, number: signal.Signals):
        with tempfile.TemporaryDirectory() as directory:
            process = subprocess.Popen(
                [*NESTED, "--log", f"{directory}/log", "--", "sh", "-c", "echo early; sleep 1000"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            with process, process.stdout as output:
                self.assertEqual([output.readline(), output.readline()],
                                 ["# lane: nested\n", "early\n"])
                self.assertTrue(machines_with(directory))
                process.send_signal(number)
                process.wait(timeout=WAIT)
            deadline = time.monotonic() + WAIT
            while machines_with(directory) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(machines_with(directory), [])

    def test_interrupt(self):
        self.check_nothing_left(signal.SIGINT)

    def test_terminate(self):
        self.check_nothing_left(signal.SIGTERM)

    def test_kill(self):
        self.check_nothing_left(signal.SIGKILL)


class Emulated(unittest.TestCase):
    """The lanes on the host; needs no KVM."""

    def test_files_are_copies(self):
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write("mine\n")
            file.flush()
            done = run(LAB / "lab", "run", "--lane", "emulated", "--bring", f"{file.name}:disk",
                       "--", "sh", "-c",
                       "cat disk; echo theirs >disk; echo $LAB_LANE; cd $LAB_FILES && ls; exit 4")
            self.assertEqual((done.returncode, done.stdout),
                             (4, "# lane: emulated\nmine\nemulated\ndisk\n"))
            self.assertEqual(Path(file.name).read_text(), "mine\n")

    def test_time_limit(self):
        done = run(LAB / "lab", "run", "--lane", "emulated", "--timeout", "0.5", "--",
                   "sleep", "1000")
        self.assertEqual(done.returncode, 124)


class Linux(unittest.TestCase):
    """QEMU boots the images made by scripts/."""

    def test_boots_from_its_disk_and_powers_off(self):
        with tempfile.TemporaryDirectory() as directory:
            kernel = Path(run(SCRIPTS / "fetch-kernel").stdout.strip())
            initrd = Path(directory) / "initrd.img"
            disk = Path(directory) / "rootfs.img"
            self.assertEqual(run(SCRIPTS / "mkinitrd", kernel.parent.parent, initrd).returncode, 0)
            self.assertEqual(run(SCRIPTS / "mkrootfs", disk).returncode, 0)
            done = run(
                *NESTED, "--package", "qemu-system-x86", "--bring", f"{kernel}:vmlinuz",
                "--bring", initrd, "--bring", disk, "--",
                "qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-cpu", "host",
                "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", "vmlinuz", "-initrd", "initrd.img",
                "-global", "virtio-mmio.force-legacy=false",
                "-drive", "if=none,id=disk,file=rootfs.img,format=raw",
                "-device", "virtio-blk-device,drive=disk",
                "-append", 'console=ttyS0 quiet root=/dev/vda minivmm.test="mount | grep vda"')
            self.assertIn("/dev/vda on / type ext4", done.stdout)
            self.assertIn("minivmm.test: exit status 0", done.stdout)
            self.assertEqual(done.returncode, 0)


def machines_with(text: str) -> list[str]:
    """The command lines of running QEMUs that contain TEXT."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "qemu-system" in line and text in line:
            found.append(line)
    return found


if __name__ == "__main__":
    unittest.main()
