# SPDX-License-Identifier: MIT
"""Exit statuses: each way in which a guest can end has its own."""

import os
import random
import struct
import time

from vmm import TIMEOUTS_MS, GuestTest, only_on, text

KILLS = int(os.environ.get("KILLS", "20"))  # of machines that write to a disk


class Ends(GuestTest):
    def check_end(self, name: str, cmdline: str, status: int, *options: object):
        done = self.boot(name, "--no-reboot", *options, cmdline=cmdline)
        self.check_status(done, status)
        return done

    def test_hello(self):
        done = self.boot("hello")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, b"hello from the guest\n", b""))

    def test_power_off(self):
        self.check_end("end", "power-off", 0)

    def test_guest_chosen_code(self):
        for code in (0, 1, 2, 77, 120, 125, 127, 128, 254, 255):
            with self.subTest(code=code):
                done = self.check_end("end", f"exit {code}", code)
                self.assertEqual(done.stderr, b"")

    def test_panic(self):
        self.check_one_line(self.check_end("end", "panic", 121).stderr, "panic")

    def test_reset_without_reboot(self):
        self.check_end("end", "reset", 120)

    @only_on("x86_64", "a PC's keyboard controller")
    def test_reset_by_i8042_without_reboot(self):
        self.check_end("fault", "i8042", 120)

    @only_on("x86_64", "a PC's system control port")
    def test_reset_by_port_92_without_reboot(self):
        self.check_end("fault", "port92", 120)

    @only_on("x86_64", "an Arm CPU has no triple fault")
    def test_triple_fault(self):
        self.check_one_line(self.check_end("fault", "triple-fault", 122).stderr, "triple fault")

    @only_on("x86_64", "on Arm KVM does not decode instructions")
    def test_kvm_failure_names_the_place(self):
        done = self.check_end("fault", "execute-device", 123)
        device = int(done.stdout, 16)
        self.assertIn(f"rip {device:016x}", text(done.stderr))

    @only_on("x86_64", "on Arm KVM does not decode instructions")
    def test_kvm_failure_shows_the_instruction(self):
        done = self.check_end("fault", "unknown-instruction", 123)
        self.assertRegex(text(done.stderr), "code at rip: db 2[89a-f] ")  # fldt

    def check_timeout(self, cmdline: str, said: bytes, *options: object) -> bytes:
        """A guest that has printed SAID ends by --timeout. Returns its whole output."""
        for ms in TIMEOUTS_MS:
            done = self.boot("end", "--timeout", f"{ms}ms", *options, cmdline=cmdline)
            self.check_status(done, 124)
            self.check_one_line(done.stderr, "--timeout", f"{ms} ms")
            if said in done.stdout:
                break
        self.assertIn(said, done.stdout)
        return done.stdout

    def test_timeout_of_a_guest_that_spins(self):
        self.assertEqual(self.check_timeout("spin", b"spin\n"), b"spin\n")

    def test_timeout_of_a_guest_that_sleeps(self):
        self.assertEqual(self.check_timeout("stop", b"stop\n", "--cpus", "2"), b"stop\n")

    def test_timeout_of_a_guest_that_resets_all_the_time(self):
        self.check_timeout("reset", 2 * b"reset\n")


class Resets(GuestTest):
    """A reset restores RAM, devices and vCPUs to power-on; only the disk keeps its contents."""

    def check_three_boots(self, *options: object):
        disk = self.disk()
        done = self.boot("reboot", "--disk", disk, *options)
        self.check_status(done, 0)
        self.assertEqual(done.stdout, b"boot 1\nboot 2\nboot 3\n")
        self.assertEqual(disk.read_bytes()[:1], b"\3")

    def test_reset(self):
        self.check_three_boots()

    def test_reset_with_memory_above_the_hole(self):
        self.check_three_boots("--memory", "6G")

    def test_reset_with_all_devices(self):
        self.check_three_boots("--cpus", "3", "--console", "file=console.log", "--net", "user")

    def test_no_flushed_byte_is_lost_by_sigkill(self):
        """At a random moment of a disk's traffic, KILLS times, with either engine."""
        sectors, chance = 16, random.Random(1)
        for kill in range(KILLS):
            disk = self.disk()
            engine = ("auto", "thread")[kill % 2]
            with self.running("flushed", "--disk", f"{disk},engine={engine}",
                              cmdline=str(sectors)) as process:
                lines = [process.first_line]
                lines += [process.stdout.readline() for _ in range(chance.randrange(20))]
                time.sleep(chance.random() / 100)
                process.kill()
                lines += process.stdout.read().splitlines(True)
            # A line may have been cut.
            flushed = max(int(line) for line in lines if line.endswith(b"\n"))
            content = disk.read_bytes()
            for number in range(max(1, flushed - sectors + 1), flushed + 1):
                at = number % sectors * 512
                found = struct.unpack("<64Q", content[at:at + 512])
                self.assertGreaterEqual(min(found), number, f"kill {kill}, {engine}")

    def test_disk_keeps_what_was_flushed(self):
        disk = self.disk()
        self.check_passes("blk", "--disk", disk)
        content = disk.read_bytes()
        for i in range(4):
            start = 4 * i * 512 + (512 if i == 0 else 0)
            skip = start - 4 * i * 512
            self.assertEqual(content[start:4 * i * 512 + 1024],
                             bytes((i + 7 * j) & 0xff for j in range(skip, 1024)))
