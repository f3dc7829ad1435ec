# SPDX-License-Identifier: MIT
"""Completes command lines in a real bash and a real zsh, each on a terminal of its own."""

import os
import pty
import select
import shutil
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

COMPLETIONS = Path(os.environ["COMPLETIONS"])
MINIVMM = os.environ["MINIVMM"]

TIME_LIMIT = 120  # seconds: only a shell that hangs takes longer

# Ctrl-G sends the line; Ctrl-T inserts all that may follow.
BASH = r"""
PS1= PS2=
bind 'set enable-bracketed-paste off'
bind '"\C-t": insert-completions'
bind -x '"\C-g": printf "%s\n" "$READLINE_LINE" >&REPLY'
source COMPLETIONS/minivmm
echo ready >&REPLY
"""
ZSH = r"""
PS1= PS2=
bindkey -e
fpath=(COMPLETIONS $fpath)
autoload -U compinit && compinit -u -D
zstyle ':completion:*' menu no
unsetopt auto_menu auto_list list_ambiguous
send() { print -r -- "$BUFFER" >&REPLY }
zle -N send && bindkey '^G' send
all() { _main_complete; compstate[insert]=all }
zle -C all complete-word all && bindkey '^T' all
bindkey '^I' complete-word
print ready >&REPLY
"""


class Shell:
    """An interactive shell. Its line arrives on a pipe, so no prompt or echo has to be read."""

    def __init__(self, directory: Path, command: list[str], setup: str):
        self.directory = directory
        reader, writer = os.pipe()
        self.terminal, shell_side = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=directory, stdin=shell_side, stdout=shell_side, stderr=shell_side,
            pass_fds=[writer], start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "dumb", "LC_ALL": "C",
                 "INPUTRC": "/dev/null", "ZDOTDIR": str(directory)})
        os.close(shell_side)
        os.close(writer)
        self.replies = os.fdopen(reader, "r", encoding="utf-8")
        threading.Thread(target=self.drain, daemon=True).start()
        file = directory / ".setup"
        file.write_text(setup.replace("COMPLETIONS", str(COMPLETIONS)).replace("REPLY", str(writer)))
        self.type(f". ./{file.name}\n")
        assert self.read() == "ready"

    def drain(self):
        try:
            while os.read(self.terminal, 4096):
                pass
        except OSError:
            pass

    def type(self, text: str):
        os.write(self.terminal, text.encode())

    def read(self) -> str:
        if not select.select([self.replies], [], [], TIME_LIMIT)[0]:
            raise AssertionError("the shell hangs")
        return self.replies.readline().rstrip("\n")

    def complete(self, line: str, key: str = "\t") -> str:
        """The line after completion."""
        self.type(f"{line}{key}\a")
        after = self.read()
        self.type("\x01\x0b")  # to the beginning, kill to the end
        return after

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        self.replies.close()


def options_of(*command: str) -> set[str]:
    """The options that --help shows: one of a line's first two words."""
    text = subprocess.run([MINIVMM, *command, "--help"], check=True, capture_output=True, text=True)
    return {word for line in text.stdout.splitlines() if line.startswith("  ")
            for word in line.split()[:2] if word.startswith("--")}


class Completion:
    """What both shells do."""

    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.files.cleanup)
        directory = Path(cls.files.name)
        for name in "bzImage", "disk one.img", "root.img":
            (directory / name).touch()
        (directory / "source").mkdir()
        cls.shell = Shell(directory, cls.COMMAND, cls.SETUP)
        cls.addClassCleanup(cls.shell.close)

    def check(self, line: str, after: str):
        self.assertEqual(self.shell.complete(line), after)

    def offered(self, line: str, word: str = "") -> set[str]:
        """What may follow `line`, whose last word begins with `word`."""
        after = self.shell.complete(line, "\x14")
        self.assertTrue(after.startswith(line[:len(line) - len(word)]), after)
        return set(after[len(line) - len(word):].split())

    def check_offers_all_options(self, *command: str):
        offered = {word.rstrip("=") for word in self.offered(" ".join(["minivmm", *command, "--"]), "--")}
        self.assertGreater(len(offered), 10)
        self.assertEqual(options_of(*command) - offered, set())

    def test_options(self):
        self.check_offers_all_options()

    def test_options_of_run(self):
        self.check_offers_all_options("run")
        self.assertNotIn("--port", self.offered("minivmm run --", "--"))

    def test_options_of_snapshots(self):
        self.check_offers_all_options("restore")
        offered = self.offered("minivmm snapshot root.img source --", "--")
        self.assertEqual({word.rstrip("=") for word in offered},
                         {"--stop", "--show", "--check", "--help"})
        self.check("minivmm restore source --clock=re", "minivmm restore source --clock=real ")
        self.check("minivmm fork root.img -- --clock=re", "minivmm fork root.img -- --clock=real ")

    def test_subcommand(self):
        self.check("minivmm ru", "minivmm run ")
        self.check("minivmm snap", "minivmm snapshot ")
        self.check("minivmm rest", "minivmm restore ")
        self.check("minivmm fo", "minivmm fork ")
        self.check("minivmm wa", "minivmm warm ")
        self.check("minivmm warm --dr", "minivmm warm --drop" + self.AFTER_OPTION)
        self.check("minivmm warm pg --on-f", "minivmm warm pg --on-fork" + self.AFTER_OPTION)

    def test_file(self):
        self.check("minivmm --kernel bz", "minivmm --kernel bzImage ")
        self.check("minivmm --kernel=bz", "minivmm --kernel=bzImage ")
        self.check("minivmm run --kernel bz", "minivmm run --kernel bzImage ")
        self.check("minivmm --disk di", r"minivmm --disk disk\ one.img ")

    def test_directory(self):
        self.assertEqual(self.shell.complete("minivmm run --rw so").rstrip(),
                         "minivmm run --rw source/")
        self.assertEqual(self.shell.complete("minivmm restore so").rstrip(),
                         "minivmm restore source/")

    def test_choice(self):
        self.check("minivmm --log-level wa", "minivmm --log-level warn ")
        self.check("minivmm --log-level=wa", "minivmm --log-level=warn ")
        self.assertEqual(self.offered("minivmm --log-level "), {"error", "warn", "info", "debug"})

    def test_flag(self):
        self.check("minivmm --stats=of", "minivmm --stats=off ")

    def test_forms(self):
        self.assertEqual(self.offered("minivmm --net "), {"user", "tap", "none"})
        self.assertEqual({word.rstrip("=") for word in self.offered("minivmm run --net ")},
                         {"user", "tap", "none"})
        self.check("minivmm --serial fi", "minivmm --serial file=")
        self.check("minivmm --serial file=bz", "minivmm --serial file=bzImage ")

    def test_keys(self):
        self.check("minivmm --disk root.img,po", "minivmm --disk root.img,poll=")
        self.check("minivmm --disk path=root.img,dir", "minivmm --disk path=root.img,direct" + self.AFTER_KEY)
        self.check("minivmm --disk root.img,ro,eng", "minivmm --disk root.img,ro,engine=")
        self.check("minivmm --disk root.img,engine=th", "minivmm --disk root.img,engine=thread" + self.AFTER_KEY)
        self.check("minivmm run --net user,host-l", "minivmm run --net user,host-loopback" + self.AFTER_KEY)
        self.check("minivmm --console file=x,app", "minivmm --console file=x,append" + self.AFTER_KEY)

    def test_command_of_run(self):
        """Options come first: what follows the command is its own."""
        (Path(self.files.name) / "source/probe.txt").touch()
        self.check("minivmm run --cpus 2 cat --kernel source/pr",
                   "minivmm run --cpus 2 cat --kernel source/probe.txt ")
        self.check("minivmm run -- cat --ker", "minivmm run -- cat --ker")


@unittest.skipUnless(shutil.which("bash"), "no bash")
class Bash(Completion, unittest.TestCase):
    COMMAND = ["bash", "--norc", "--noprofile", "-i"]
    SETUP = BASH
    AFTER_KEY = AFTER_OPTION = " "

    def test_directory_only(self):
        self.check("minivmm run --root bz", "minivmm run --root bz")

    def test_letter(self):
        self.check("minivmm run -m 1G --ker", "minivmm run -m 1G --kernel ")

    def test_doubled_comma(self):
        self.check("minivmm --disk a,,b.img,po", "minivmm --disk a,,b.img,poll=")

    def test_quoted_value(self):
        self.check("minivmm --cmdline 'a b' --ker", "minivmm --cmdline 'a b' --kernel ")

    def test_inside_of_a_line(self):
        self.shell.type("minivmm --ker bzImage" + "\x02" * len(" bzImage"))
        self.assertEqual(self.shell.complete(""), "minivmm --kernel bzImage")


@unittest.skipUnless(shutil.which("zsh"), "no zsh")
class Zsh(Completion, unittest.TestCase):
    COMMAND = ["zsh", "-f", "-i"]
    SETUP = ZSH
    AFTER_KEY, AFTER_OPTION = ",", "="  # zsh removes them before a space


if __name__ == "__main__":
    unittest.main()
