# SPDX-License-Identifier: MIT
"""What is built is hardened: reads the program, and the command that compiled each source.

BINARY checks a program alone, of any build; with BUILD and the lists FLAGS and NO_FLAGS, its sources, too."""

import json
import os
import re
import shlex
import subprocess
import unittest
from pathlib import Path

BINARY = os.environ["BINARY"]
BUILD = os.environ.get("BUILD")
FLAGS = [flag for flag in os.environ.get("FLAGS", "").split() if not flag.startswith("-U")]
NO_FLAGS = os.environ.get("NO_FLAGS", "").split()
CC = shlex.split(os.environ.get("CC", "cc"))
LARGEST_STEP = 0x1000  # bytes of the stack that a function of x86_64 takes without touching them


def output(*words: str) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=BUILD).stdout


def readelf(option: str, file: str = BINARY) -> str:
    return output("readelf", "-W", option, file)


class Binary(unittest.TestCase):
    def test_nothing_is_writable_and_executable(self):
        segments = re.findall(r"^  (\S+) +0x.* ([R ][W ][E ]) 0x", readelf("-l"), re.M)
        self.assertIn(("GNU_STACK", "RW "), segments)
        self.assertEqual([segment for segment in segments if segment[1][1:] == "WE"], [])

    def test_relocations_are_read_only(self):
        self.assertIn("GNU_RELRO", readelf("-l"))
        dynamic = readelf("-d")
        self.assertNotIn("TEXTREL", dynamic)
        if "NEEDED" in dynamic:
            self.assertRegex(dynamic, r"BIND_NOW|Flags:.* NOW")

    def test_address_is_random(self):
        if "INTERP" in readelf("-l") or "static-pie" in os.environ.get("LDFLAGS", ""):
            self.assertIn("DYN (", readelf("-h"))

    def test_stack_is_protected(self):
        self.assertIn("__stack_chk_fail", readelf("-s"))

    def test_copies_are_checked(self):
        if not any(flag.startswith("-D_FORTIFY_SOURCE=") for flag in FLAGS):
            self.skipTest("no FORTIFY in this build")
        if "__libc_start_main" not in readelf("-s") or "GLIBC_" not in readelf("-V"):
            self.skipTest("the C library has no FORTIFY")
        self.assertRegex(readelf("-s"), r"__(mem|str|v?sn?printf|read)\w*_chk")


@unittest.skipUnless(BUILD, "the program alone is checked")
class Sources(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        commands = json.loads((Path(BUILD) / "compile_commands.json").read_text())
        cls.commands = {entry["output"]: shlex.split(entry["command"]) for entry in commands
                        if entry["file"].endswith(".c")}

    @staticmethod
    def after_flags(words: list[str]) -> set[str]:
        """What follows the last of FLAGS, and so wins."""
        return set(words[max(words.index(flag) for flag in FLAGS) + 1:])

    def test_each_is_compiled_with_all_flags(self):
        hosted = {name: words for name, words in self.commands.items() if "-ffreestanding" not in words}
        self.assertGreater(len(hosted), 100)
        for name, words in hosted.items():
            self.assertEqual([flag for flag in FLAGS if flag not in words], [], name)
            self.assertEqual(set(NO_FLAGS) & self.after_flags(words), set(), name)

    def test_code_without_a_c_library_has_none(self):
        freestanding = {name: words for name, words in self.commands.items() if "-ffreestanding" in words}
        self.assertTrue(any("firmware/init/" in name for name in freestanding))
        for name, words in freestanding.items():
            self.assertEqual(set(NO_FLAGS) - self.after_flags(words), set(), name)


@unittest.skipUnless(BUILD, "the program alone is checked")
class Code(unittest.TestCase):
    def test_branches_land_on_marks(self):
        marks = {"-fcf-protection=full": r"IBT, SHSTK", "-mbranch-protection=standard": r"BTI, PAC"}
        for flag, mark in marks.items():
            if flag in FLAGS:
                objects = output("ar", "t", "libcore.a").split()
                missing = [name for name in objects if not re.search(mark, readelf("-n", name))]
                self.assertEqual(missing, [])
                self.assertGreater(len(objects), 100)
                if re.search(mark, self.trivial(flag)):
                    self.assertRegex(readelf("-n"), mark)

    def trivial(self, flag: str) -> str:
        """The notes of an empty program: what the host's start files have not, none has."""
        program = Path(BUILD) / "meson-private" / "hardening-probe"
        subprocess.run([*CC, flag, "-pie", "-fPIE", "-x", "c", "-", "-o", program],
                       input="int main(void) { return 0; }", text=True, check=True)
        return readelf("-n", str(program))

    def test_large_frames_are_touched_page_by_page(self):
        if "-fstack-clash-protection" not in FLAGS or "X86-64" not in readelf("-h"):
            self.skipTest("no probes of the stack in this build")
        steps = [int(size, 16) for name in output("ar", "t", "libcore.a").split()
                 for size in re.findall(r"\tsub +\$0x([0-9a-f]+),%rsp", output("objdump", "-d", name))]
        taken = [step for step in steps if step < 1 << 63]  # the others give back: -128 is shorter than +128
        self.assertIn(LARGEST_STEP, taken)
        self.assertLessEqual(max(taken), LARGEST_STEP)


if __name__ == "__main__":
    unittest.main()
