# SPDX-License-Identifier: MIT
"""minivmm run: file operations do what POSIX says, in --rw and in the root, for root and others."""

import os
import stat
import unittest
from pathlib import Path

from machine import FILES, GuestTest, sha256
from test_run import EMULATED, run

USER = 1234  # runs minivmm if the tests are run by root
SCRIPTS = Path(__file__).resolve().parent / "guest"
OPERATIONS = 100 if EMULATED else 300

SCRIPT = r"""
umask 022
mkdir "$DIR/posix" "$DIR/unpacked" && cd "$DIR"
echo "rw: $(python3 "$SCRIPTS/posix.py" "$DIR/posix")"
mkdir /tmp/posix && echo "root: $(python3 "$SCRIPTS/posix.py" /tmp/posix)"
echo "rw file: $(python3 "$SCRIPTS/random_file.py" "$DIR/random" 1 "$COUNT" 2>&1)"
echo "root file: $(python3 "$SCRIPTS/random_file.py" "$KEPT/random" 2 "$COUNT" 2>&1)"

echo "owner: $(stat -c '%u:%g' "$DIR" "$DIR/theirs" | xargs)"
mkdir tree && echo x >tree/file && chown 33:44 tree/file && chmod 4711 tree/file
cp -a tree copy && tar cf - tree | tar xpf - -C unpacked 2>/dev/null && install -o 33 -g 44 tree/file installed
echo "copies: $(stat -c '%u:%g:%a' copy/file unpacked/tree/file installed | xargs)"
mknod device c 1 3 2>/dev/null || echo "device: refused"
"""


class Files:
    """Made by root or an ordinary user on the host; the command is root in the guest."""

    as_user: dict
    ids: tuple[int, int]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rw, cls.kept = cls.directory / "rw", cls.directory / "kept"
        cls.directory.chmod(0o755)
        for path in (cls.rw, cls.kept):
            path.mkdir()
        for path in (cls.rw / "theirs", cls.kept / "random"):
            path.write_text("kept")
        for path in (cls.rw, cls.rw / "theirs", cls.kept, cls.kept / "random"):
            os.chown(path, *cls.ids)
        cls.done = run("--rw", cls.rw, "--env", f"DIR={cls.rw}", "--env", f"KEPT={cls.kept}",
                       "--env", f"SCRIPTS={SCRIPTS}", "--env", f"COUNT={OPERATIONS}",
                       "--", "sh", "-c", SCRIPT, umask=0o077, cwd=cls.directory, **cls.as_user)
        cls.said = dict(line.split(": ", 1) for line in cls.done.stdout.decode().splitlines()
                        if ": " in line)

    def assert_said(self, **wanted: str):
        self.assertEqual({name: self.said.get(name) for name in wanted}, wanted,
                         (self.done.stdout, self.done.stderr))

    def test_file_operations_as_posix_says(self):
        for where in ("rw", "root"):
            self.assertRegex(self.said.get(where, ""), r"\A\d+ checks\Z",
                             (self.done.stdout, self.done.stderr))

    def test_contents_after_random_operations(self):
        for where in ("rw file", "root file"):
            self.assertRegex(self.said.get(where, ""), r"\Athe same ", self.done.stdout)
        self.assertEqual(self.said["rw file"].split()[-1],
                         sha256((self.rw / "random").read_bytes()))
        self.assertEqual((self.kept / "random").read_text(), "kept")

    def test_owners_that_copies_keep(self):
        self.assert_said(owner="0:0 0:0", device="refused",
                         copies="33:44:4711 33:44:4711 33:44:755")

    def test_what_the_host_sees(self):
        file = (self.rw / "tree/file").stat()
        self.assertEqual(stat.S_IMODE(file.st_mode), 0o711)
        self.assertEqual((file.st_uid, file.st_gid), (33, 44) if self.ids == (0, 0) else self.ids)
        self.assertTrue(stat.S_ISFIFO((self.rw / "posix/special/pipe").stat().st_mode))
        self.assertFalse((self.rw / "device").exists())

    def test_set_id_bits_are_told_once(self):
        self.assertEqual(self.done.stderr.decode().count("set-ID bits of files are shown"), 1,
                         self.done.stderr)
        self.assertEqual(self.done.stderr.count(b"\n"), 1, self.done.stderr)


class ByAUser(Files, GuestTest):
    @classmethod
    def setUpClass(cls):
        cls.as_user = {}
        cls.ids = (os.getuid(), os.getgid())
        if cls.ids[0] == 0:
            cls.ids = (USER, USER)
            cls.as_user = {"user": USER, "group": USER, "extra_groups": cls.let_user_in()}
        super().setUpClass()

    @staticmethod
    def let_user_in() -> list[int]:
        """Returns the groups that a user needs for /dev/kvm."""
        kvm = os.stat("/dev/kvm")
        if os.environ.get("LAB_LANE") == "nested":
            os.chmod("/dev/kvm", 0o666)  # of the nested machine
        for directory in (SCRIPTS, *SCRIPTS.parents, FILES, *FILES.parents):
            if not directory.stat().st_mode & 0o001:
                directory.chmod(0o755)
        return [kvm.st_gid] if kvm.st_gid and kvm.st_mode & 0o060 == 0o060 else []


@unittest.skipUnless(os.getuid() == 0, "not root, who may set owners")
class ByRoot(Files, GuestTest):
    as_user = {}
    ids = (0, 0)
