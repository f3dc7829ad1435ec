# SPDX-License-Identifier: MIT
"""Streams through console ports, and their ends."""

import os
import subprocess
import threading
import time

from vmm import TIME_LIMIT, GuestTest, command, text

MIB = 1 << 20
DATA = os.urandom(8 * MIB)


class Streams(GuestTest):
    """The payload copies port "in" to port "out"."""

    def start(self, data: bytes, cmdline: str = ""):
        """Sends DATA to the guest; its output is in the pipe self.output."""
        guest_in, self.input = os.pipe()
        self.output, guest_out = os.pipe()
        self.addCleanup(os.close, self.output)
        words = command("streams", "--port", f"name=in,fd={guest_in}",
                        "--port", f"name=out,fd={guest_out}", cmdline=cmdline)
        self.process = subprocess.Popen(words, pass_fds=(guest_in, guest_out),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.addCleanup(self.process.communicate)
        self.addCleanup(self.process.kill)
        os.close(guest_in)
        os.close(guest_out)
        writer = threading.Thread(target=self.write, args=[data])
        writer.start()
        self.addCleanup(writer.join)

    def write(self, data: bytes):
        try:
            while data:
                data = data[os.write(self.input, data[:MIB]):]
        except BrokenPipeError:
            pass
        os.close(self.input)

    def read(self, limit: int | None = None) -> bytes:
        """Reads to the end of file, or at most `limit` bytes."""
        data = bytearray()
        while ((limit is None or len(data) < limit) and
               (piece := os.read(self.output, MIB if limit is None else limit - len(data)))):
            data += piece
        return bytes(data)

    def finish(self) -> int:
        _, errors = self.process.communicate(timeout=TIME_LIMIT)
        self.assertEqual(text(errors), "")
        return self.process.returncode

    def test_nothing_is_lost(self):
        start = time.monotonic()
        self.start(DATA)
        self.assertTrue(self.read() == DATA)
        print(f"# {len(DATA) / MIB / (time.monotonic() - start):.0f} MiB/s with start and end")
        self.assertEqual(self.finish(), 0)

    def test_end_is_seen_while_the_machine_runs(self):
        self.start(b"a few bytes", "stay")
        self.assertEqual(self.read(), b"a few bytes")
        self.assertEqual(self.process.stdout.readline(), b"closed\n")

    def test_no_byte_at_all(self):
        self.start(b"")
        self.assertEqual(self.read(), b"")
        self.assertEqual(self.finish(), 0)

    def test_power_off_waits_for_a_slow_reader(self):
        self.start(DATA[:MIB])
        data = b""
        for _ in range(16):  # the guest has sent everything after the first turn
            data += self.read(MIB // 16)
            time.sleep(0.1)
        self.assertTrue(data == DATA[:MIB])
        self.assertEqual(self.read(), b"")
        self.assertEqual(self.finish(), 0)

    def test_power_off_does_not_wait_for_a_dead_reader(self):
        self.start(DATA[:MIB])
        self.read(1)
        self.assertEqual(self.finish(), 0)

    def test_reader_gone(self):
        self.start(DATA)
        self.read(1000)
        replacement = os.open("/dev/null", os.O_RDONLY)
        os.dup2(replacement, self.output)
        os.close(replacement)
        self.assertEqual(self.finish(), 0)


class Refused(GuestTest):
    def check_refused(self, *words: str, port: str):
        done = self.boot("hello", "--port", port, stdin=subprocess.DEVNULL)
        self.assertNotEqual(done.returncode, 0)
        self.check_one_line(done.stderr, *words)

    def test_descriptor_that_is_not_open(self):
        self.check_refused("port a: descriptor 99", port="name=a,fd=99")

    def test_no_descriptor(self):
        self.check_refused("port a", "fd", port="name=a")

    def test_too_many(self):
        more = [word for i in range(8) for word in ("--port", f"name={i},fd=0")]
        done = self.boot("hello", "--port", "name=a,fd=0", *more)
        self.assertNotEqual(done.returncode, 0)
        self.check_one_line(done.stderr, "--port", "8")
