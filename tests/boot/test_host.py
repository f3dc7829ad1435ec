# SPDX-License-Identifier: MIT
"""minivmm run while the host changes what the guest sees or does not answer, and with few descriptors."""

import ctypes
import os
import resource
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from machine import GuestTest
from test_run import LIMIT, start


class Guest:
    """A shell in the guest, one command after the other."""

    def __init__(self, directory: Path, *arguments: object, **options: object):
        self.process = start(*arguments, "--", "sh", stdin=subprocess.PIPE,
                             stderr=subprocess.STDOUT, cwd=directory, **options)
        self.says("true")

    def says(self, command: str) -> list[str]:
        """The lines that the command prints; its exit status last."""
        self.process.stdin.write(f"{command}\nprintf '\\nend %s\\n' $?\n".encode())
        self.process.stdin.flush()
        lines = []
        while not lines or not lines[-1].startswith("end "):
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"the guest has ended after {lines}")
            lines.append(line.decode().rstrip("\n"))
        end = lines.pop().removeprefix("end ")
        if lines[-1] == "":  # what was printed ended with a newline, as it should
            lines.pop()
        return [*lines, end]

    def end(self) -> int:
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(LIMIT)


def replace(path: Path, text: str) -> None:
    """As editors and compilers write files."""
    new = path.with_name("new of " + path.name)
    new.write_text(text)
    new.rename(path)


class Changes(GuestTest):
    """In the guest's root, a share below an overlay: the guest's current directory is in it."""

    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("replaced", "removed", "becomes-directory"):
            (self.directory / name).write_text(f"old {name}\n")
        for name in ("swapped", "becomes-file"):
            (self.directory / name).mkdir()
            (self.directory / name / "inner").write_text("old inner\n")
        self.guest = Guest(self.directory)
        self.addCleanup(self.guest.process.kill)

    def until(self, command: str, *expected: str) -> None:
        """What the host changed long ago, for the guest, is soon seen there. Never ESTALE."""
        deadline = time.monotonic() + LIMIT
        while (lines := self.guest.says(command)) != list(expected):
            self.assertNotIn("tale file handle", " ".join(lines))
            self.assertLess(time.monotonic(), deadline, f"{command}: {lines}, not {expected}")

    def test_changes(self):
        self.until("cat replaced swapped/inner; [ -e appears ] || echo none",
                   "old replaced", "old inner", "none", "0")
        self.until("cat removed becomes-directory becomes-file/inner; ls | wc -l",
                   "old removed", "old becomes-directory", "old inner", "5", "0")
        for text in ("first\n", "second\n"):
            replace(self.directory / "replaced", text)
            self.until("cat replaced; cat $PWD/replaced", text.strip(), text.strip(), "0")
        (self.directory / "appears").write_text("here\n")
        self.until("cat appears", "here", "0")
        (self.directory / "swapped").rename(self.directory / "away")
        (self.directory / "swapped").mkdir()
        (self.directory / "swapped/inner").write_text("new inner\n")
        (self.directory / "swapped/more").write_text("more\n")
        self.until("cat swapped/inner swapped/more away/inner",
                   "new inner", "more", "old inner", "0")
        for name in ("removed", "becomes-directory", "becomes-file/inner"):
            (self.directory / name).unlink()
        (self.directory / "becomes-file").rmdir()
        (self.directory / "becomes-file").write_text("a file\n")
        (self.directory / "becomes-directory").mkdir()
        self.until("[ -e removed ] || echo gone; cat becomes-file; ls -d becomes-directory/",
                   "gone", "a file", "becomes-directory/", "0")
        self.until("echo mine >removed && cat removed", "mine", "0")
        self.until("ls | sort | tr '\\n' ' '; echo",
                   "appears away becomes-directory becomes-file removed replaced swapped ", "0")
        self.assertEqual(self.guest.end(), 0)

    def test_a_loop_waits_for_a_name(self):
        """It asks for nothing but that name, which its overlay remembers to be absent."""
        self.until("[ -e done ]", "1")
        self.guest.process.stdin.write(b"until [ -e done ]; do :; done; cat done\n")
        self.guest.process.stdin.flush()
        time.sleep(1)
        (self.directory / "done").write_text("at last\n")
        self.assertEqual(self.guest.process.stdout.readline(), b"at last\n")
        self.assertEqual(self.guest.end(), 0)

    def test_an_open_file_keeps_its_content(self):
        self.until("exec 3<replaced; cat replaced", "old replaced", "0")
        replace(self.directory / "replaced", "new\n")
        time.sleep(1.2)
        self.assertIn(self.guest.says("cat replaced")[0], ("old replaced", "new"))
        self.assertEqual(self.guest.says("cat <&3; exec 3<&-"), ["old replaced", "0"])
        self.until("cat replaced", "new", "0")
        self.assertEqual(self.guest.end(), 0)


class DeadServer:
    """A FUSE filesystem whose server answers no request but the first, INIT, which all mounts need."""

    def __init__(self, path: Path):
        self.fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0"
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.path = os.fsencode(path)
        if self.libc.mount(b"dead", self.path, b"fuse", ctypes.c_ulong(0), options.encode()):
            os.close(self.fuse)
            raise OSError(ctypes.get_errno(), "mount")
        unique = struct.unpack_from("<8xQ", os.read(self.fuse, 65536))[0]
        os.write(self.fuse, struct.pack("<IiQ2I56x", 16 + 64, 0, unique, 7, 31))

    def wait(self):
        """Until somebody waits for it."""
        os.read(self.fuse, 65536)

    def close(self):
        """Whoever waits gets an error. May be called twice."""
        if self.fuse >= 0:
            os.close(self.fuse)
            self.libc.umount2(self.path, 2)  # MNT_DETACH
            self.fuse = -1


@unittest.skipUnless(os.getuid() == 0, "not root, who may mount")
@unittest.skipUnless(os.path.exists("/dev/fuse"), "the host's kernel has no FUSE")
class DeadMount(GuestTest):
    def test_the_other_files_go_on(self):
        """All but the directory of the mount: the guest's overlay locks it while it looks up a name."""
        for name in ("mounts/dead", "other"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "other/file").write_text("text\n")
        server = DeadServer(self.directory / "mounts/dead")
        self.addCleanup(server.close)
        guest = Guest(self.directory)
        self.addCleanup(guest.process.kill)
        self.assertEqual(guest.says("cat mounts/dead/file 2>/dev/null & echo asked"), ["asked", "0"])
        server.wait()
        self.assertEqual(guest.says("cat other/file && cp other/file new && echo more >>new && cat new"),
                         ["text", "text", "more", "0"])
        self.assertEqual(guest.says("find /usr/bin -size +0 | wc -l >count && [ $(cat count) -gt 9 ]"),
                         ["0"])
        server.close()
        self.assertNotEqual(guest.says("wait $!"), ["0"])
        self.assertEqual(guest.end(), 0)


class Descriptors(GuestTest):
    def test_more_open_files_than_the_host_allows(self):
        with tempfile.TemporaryDirectory() as name:
            directory, other = Path(name, "read"), Path(name, "written")
            directory.mkdir()
            other.mkdir()
            for i in range(600):
                (directory / f"f{i}").write_text(f"{i}\n")
            script = (
                "import resource\n"
                "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
                "files = [open(f'f{i}') for i in range(600)]\n"
                f"other = open('{other}/x', 'w')\n"
                "print(sum(int(file.read()) for file in files), file=other)\n"
                "print(hard)\n")
            guest = start("--rw", other, "--", "python3", "-c",
                          "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, "
                          f"(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n{script}",
                          cwd=directory, preexec_fn=lambda: resource.setrlimit(
                              resource.RLIMIT_NOFILE, (256, 256)))
            output, errors = guest.communicate(timeout=LIMIT)
            self.assertEqual((guest.returncode, errors), (0, b""))
            self.assertEqual((other / "x").read_text(), f"{sum(range(600))}\n")
            self.assertGreater(int(output), 100000)  # the guest's own limit is not the host's


if __name__ == "__main__":
    unittest.main()
