# SPDX-License-Identifier: MIT
"""What is released: the tarball of the last commit builds and passes its unit tests, and an ordinary
user makes a Debian package of it."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["BUILD"])
NOBODY = 65534
FILES = """\
-rwxr-xr-x root/root ./usr/bin/minivmm
-rwxr-xr-x root/root ./usr/bin/minivmm-net
-rw-r--r-- root/root ./usr/share/bash-completion/completions/minivmm
-rw-r--r-- root/root ./usr/share/doc/minivmm/changelog.gz
-rw-r--r-- root/root ./usr/share/doc/minivmm/copyright
-rw-r--r-- root/root ./usr/share/man/man1/minivmm-net.1.gz
-rw-r--r-- root/root ./usr/share/man/man1/minivmm.1.gz
-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_minivmm
"""


def run(*words: object, ok: bool = True, **more) -> str:
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **more)
    if ok and done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def temporary(test: type[unittest.TestCase]) -> Path:
    directory = tempfile.TemporaryDirectory(prefix="minivmm-package-")
    test.addClassCleanup(directory.cleanup)
    return Path(directory.name)


def unpack(directory: Path) -> Path:
    """Makes the tarball and unpacks it."""
    if subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True).returncode:
        raise unittest.SkipTest("not a git repository, so there is no commit to make a tarball of")
    run("meson", "dist", "-C", BUILD, "--no-tests", "--allow-dirty", "--formats", "gztar")
    tarball, = (BUILD / "meson-dist").glob("*.tar.gz")
    run("tar", "-x", "-C", directory, "-f", tarball)
    source, = directory.iterdir()
    return source


class Tarball(unittest.TestCase):
    def test_builds_and_passes_its_unit_tests(self):
        source = unpack(temporary(type(self)))
        build = source / "build"
        run("meson", "setup", build, source, "-Dwerror=true")
        run("ninja", "-C", build)
        run("meson", "test", "-C", build, "--no-rebuild", "--suite", "unit", "--print-errorlogs")


@unittest.skipUnless(shutil.which("dpkg-buildflags"), "no dpkg-dev")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = temporary(cls)
        cls.source = unpack(cls.directory)
        cls.package = cls.make(cls.source)

    @classmethod
    def make(cls, source: Path) -> Path:
        """Makes the package as an ordinary user."""
        more = {}
        if os.geteuid() == 0:
            run("chown", "-R", f"{NOBODY}:{NOBODY}", cls.directory)
            more = {"user": NOBODY, "group": NOBODY, "extra_groups": [],
                    "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}}
        return Path(run(source / "scripts/deb", cwd=source, **more).splitlines()[-1])

    def test_is_reproducible(self):
        again = self.directory / "elsewhere"
        shutil.copytree(self.source, again, ignore=shutil.ignore_patterns("build*"))
        self.assertEqual(self.make(again).read_bytes(), self.package.read_bytes())

    def test_files(self):
        files = [line.split() for line in run("dpkg-deb", "-c", self.package).splitlines()
                 if not line.endswith("/")]
        self.assertEqual("".join(f"{words[0]} {words[1]} {words[5]}\n" for words in files), FILES)

    def test_depends_on_what_it_is_linked_with(self):
        depends = run("dpkg-deb", "-f", self.package, "Depends")
        self.assertRegex(depends, r"libc6 \(>= ")
        self.assertNotIn("liburing", depends)
        self.assertNotIn("libslirp", depends)
        self.assertIn("libslirp0", run("dpkg-deb", "-f", self.package, "Recommends"))

    def test_installs_and_leaves_nothing_behind(self):
        root = self.directory / "root"
        database = root / "var/lib/dpkg"
        for name in "info", "updates":
            (database / name).mkdir(parents=True)
        (database / "status").touch()
        dpkg = ["dpkg", f"--root={root}", "--force-depends"]
        if os.geteuid() != 0:
            if subprocess.run(["unshare", "-r", "true"], capture_output=True).returncode:
                self.skipTest("needs root or a user namespace")
            dpkg[0:0] = ["unshare", "-r"]
        path = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        run(*dpkg, "--install", self.package, env=path)
        self.assertRegex(run(root / "usr/bin/minivmm", "--version"), r"^minivmm \d")
        run(*dpkg, "--purge", "minivmm", env=path)
        self.assertEqual([path for path in root.rglob("*minivmm*")], [])

    def test_apt_finds_what_it_depends_on(self):
        if not shutil.which("apt-get"):
            self.skipTest("no apt-get")
        self.assertIn("Inst minivmm", run("apt-get", "-s", "install", self.package))

    def test_policy(self):
        if not shutil.which("lintian"):
            self.skipTest("no lintian: ./scripts/install-packages builds")
        run("lintian", "--allow-root", "--fail-on", "error,warning",
            "--suppress-tags", "initial-upload-closes-no-bugs", self.package)


if __name__ == "__main__":
    unittest.main()
