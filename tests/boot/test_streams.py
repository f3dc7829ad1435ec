# SPDX-License-Identifier: MIT
"""Streams through ports of the virtio console, which is also the guest's console."""

import os
import socket
import threading
import time

from machine import FILES, WAIT, GuestTest

MIB = 1 << 20
SIZES = [(40, 100), (50, 120)]
BUSYBOX = (FILES / "busybox").read_bytes()


class Stream(threading.Thread):
    """Reads a descriptor to its end, with pauses in between."""

    def __init__(self, fd: int, pause: float = 0):
        super().__init__(daemon=True)
        self.fd, self.pause, self.data = fd, pause, bytearray()
        self.start()

    def run(self):
        while piece := os.read(self.fd, 65536):
            self.data += piece
            time.sleep(self.pause)
        os.close(self.fd)


def write(fd: int, data: bytes):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    os.close(fd)


class Streams(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.urandom(16 * MIB)
        guest_in, host_in = os.pipe()
        host_out, guest_out = os.pipe()
        host_last, guest_last = os.pipe()
        host_gone, guest_gone = os.pipe()
        host_talk, guest_talk = socket.socketpair()
        null = os.open(os.devnull, os.O_RDONLY)
        ours = {"in": guest_in, "out": guest_out, "gone": guest_gone, "null": null,
                "talk": guest_talk.fileno(), "last": guest_last}
        os.close(host_gone)
        machine = cls.boot(
            "--kernel", FILES / "vmlinuz-cloud", "--initrd", FILES / "initrd-cloud.img",
            "--memory", "256M", "--net", "none", "--console", "stdio", "--disk", cls.copy("root.img"),
            *(word for name, fd in ours.items() for word in ("--port", f"name={name},fd={fd}")),
            "--cmdline", 'console=hvc0 quiet root=/dev/vda rw minivmm.test="sh /test/streams.sh"',
            terminal=SIZES[0], inherit=tuple(ours.values()))
        for fd in guest_in, guest_out, guest_last, guest_gone, null:
            os.close(fd)
        guest_talk.close()
        cls.see_it_through(machine, host_in, host_out, host_last, host_talk)

    @classmethod
    def see_it_through(cls, machine, host_in, host_out, host_last, host_talk):
        threading.Thread(target=write, args=[host_in, cls.data], daemon=True).start()
        cls.question = host_talk.makefile().readline()
        host_talk.sendall(b"answer\n")
        host_talk.shutdown(socket.SHUT_WR)
        passed = Stream(host_out)
        machine.wait_for("^@@ end 0\nguest: size 40 100$")
        passed.join(WAIT)
        cls.passed, cls.ended = passed.data, not passed.is_alive()
        machine.resize(*SIZES[1])
        last = Stream(host_last, pause=0.1)
        cls.status = machine.finish()
        last.join(WAIT)
        cls.last = last.data

    def test_names(self):
        self.assertEqual(self.section("ports").lines(), ["in", "out", "gone", "null", "talk", "last"])

    def test_console_and_ports_together(self):
        self.assertEqual(self.section("tty").lines(), ["/dev/hvc0", "hvc0"])

    def test_window_size_and_resize(self):
        for rows, columns in SIZES:
            self.assertIn(f"guest: size {rows} {columns}\n", self.machine.text())

    def test_input_that_is_empty(self):
        self.assertEqual(self.section("null").lines(), ["0"])

    def test_both_ways(self):
        self.assertEqual(self.question, "question\n")
        self.assertEqual(self.section("talk").lines(), ["host_connected: 1", "answer"])

    def test_reader_gone(self):
        self.assertEqual(self.section("gone").lines(), ["host_connected: 0"])

    def test_pass_on_to_the_end(self):
        self.assertEqual(self.section("pass").status, 0)
        self.assertTrue(self.passed == self.data, f"{len(self.passed)} bytes")

    def test_end_of_output_is_seen_while_the_guest_runs(self):
        self.assertTrue(self.ended)

    def test_power_off_loses_nothing(self):
        self.assertTrue(self.last == BUSYBOX, f"{len(self.last)} bytes of {len(BUSYBOX)}")

    def test_end(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))
