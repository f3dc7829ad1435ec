# SPDX-License-Identifier: MIT
"""Shared directories in a stock guest: reads, writes, refused writes, changes on the host."""

import os
import stat

from machine import FILES, SERIAL, GuestTest, sha256

MIB = 1 << 20
FILE_COUNT = 1000


class Share(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_files()
        machine = cls.boot(
            "--kernel", FILES / "vmlinuz-cloud", "--initrd", FILES / "initrd-cloud.img",
            "--memory", "160M", "--net", "none", "--disk", cls.copy("root.img"),
            "--share", cls.ro, "--share", f"{cls.rw},tag=rw-share,rw",
            "--cmdline",
            f'console={SERIAL} quiet root=/dev/vda rw minivmm.test="sh /test/share.sh"')
        machine.wait_for("^guest: the host may change things$")
        (cls.ro / "changing").write_text("after, and longer\n")
        (cls.ro / "folder/new").write_text("new\n")
        machine.send("go on\n")
        cls.status = machine.finish()

    @classmethod
    def make_files(cls):
        cls.ro, cls.rw = cls.directory / "ro-share", cls.directory / "rw"
        cls.rw.mkdir()
        (cls.ro / "many").mkdir(parents=True)
        (cls.ro / "folder").mkdir()
        cls.contents = {f"file-{i:04}": os.urandom(1 + i) for i in range(FILE_COUNT)}
        for name, content in cls.contents.items():
            (cls.ro / "many" / name).write_bytes(content)
        cls.big = os.urandom(2 * MIB)
        (cls.ro / "big").write_bytes(cls.big)
        (cls.ro / "empty").touch()
        (cls.ro / "a name with spaces").write_text("spaces\n")
        (cls.ro / "changing").write_text("before\n")
        (cls.ro / "busybox").symlink_to("program")
        (cls.ro / "program").write_bytes((FILES / "busybox").read_bytes())
        (cls.ro / "program").chmod(0o755)
        # The guest resolves links itself, to its own files.
        (cls.directory / "outside").write_text("the host's\n")
        (cls.ro / "link").symlink_to("/etc/hostname")
        os.mkfifo(cls.ro / "pipe")

    def test_powers_off_and_minivmm_is_silent(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))

    def test_mounts(self):
        self.assert_has("mount", "^ro-share /ro virtiofs", "^rw-share /rw virtiofs")
        self.assertNotEqual(self.section("missing").status, 0)

    def test_a_thousand_files(self):
        lines = self.section("list").lines()
        content = b"".join(self.contents[name] for name in sorted(self.contents))
        self.assertEqual(lines[:2], [str(FILE_COUNT + 1), str(FILE_COUNT)])
        self.assertIn(sha256(content), lines[2])

    def test_read(self):
        big = (self.ro / "big").stat()
        self.assert_has("read", sha256(self.big),
                        f"^big {2 * MIB} {big.st_mode & 0o777:o} 0 regular file$",
                        "^empty 0 .* regular empty file$", "^folder .* directory$",
                        "^link .* symbolic link$", "^pipe .* fifo$", "^/etc/hostname\nminivmm$",
                        "^spaces$")

    def test_read_only(self):
        self.assertEqual(self.section("refused").text, "")

    def test_written_files(self):
        random = (self.rw / "random").read_bytes()
        self.assertEqual(len(random), 2 * MIB)
        self.assertIn(sha256(random), self.section("write").text)
        self.assertIn(sha256(random), self.section("host-sees").text)
        self.assert_has("write", "^text\ntext\nfirst\nsecond\nfir$", "^through$")
        second = (self.rw / "a/second").stat()
        self.assertEqual((stat.S_IMODE(second.st_mode), int(second.st_mtime), second.st_nlink),
                         (0o640, 981173106, 1))
        self.assertEqual(os.readlink(self.rw / "a/link"), "moved")
        self.assertEqual(sorted(os.listdir(self.rw)), ["a", "log", "random"])
        self.assertEqual((self.rw / "log").read_text(), "fir")

    def test_open_file_without_a_name(self):
        self.assertRegex(self.section("nameless").text,
                         r"\Astill here\n11 0\nls: /rw/temporary: No such file or directory\n\Z")

    def test_overlay(self):
        text = self.section("overlay").text
        self.assertTrue(text.startswith("changed\na name with spaces\nbig\n"), text)
        self.assertTrue(text.endswith(f"\n{FILE_COUNT}\n"), text)
        self.assertEqual((self.ro / "empty").read_bytes(), b"")

    def test_program(self):
        self.assertEqual(self.section("program").text, "it runs\n")

    def test_changes_on_the_host_are_seen(self):
        self.assertEqual(self.section("changed").text, "after, and longer\nnew\nnew\n")
        self.assertEqual(self.section("again").text, "after, and longer\n")

    def test_no_unusual_warning(self):
        self.assert_no_warning("warnings", "overlayfs:")
