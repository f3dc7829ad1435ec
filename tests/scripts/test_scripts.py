# SPDX-License-Identifier: MIT
"""What the scripts keep in the cache, and what they say when something is missing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SCRIPTS = TOP / "scripts"
WAIT = 60  # seconds: the host may be busy

# Stands in for scripts/unpack-packages: kernel VERSION in the layout LAYOUT.
UNPACK = """#!/bin/bash
set -e
echo "$*" >>"$LOG"
[[ ! ${OFFLINE-} ]] || { echo "unpack-packages: no network" >&2; exit 1; }
case "$*" in
*"--version "*) echo "$VERSION" ;;
*"--depends linux-image-cloud-"*) printf '%s\\n' linux-base-cloud "linux-image-$VERSION" ;;
*"--depends linux-image-$VERSION") case $LAYOUT in
    12 | 13) echo kmod ;;
    *) printf '%s\\n' linux-initramfs-tool linux-{base,binary,modules}-"$VERSION" ;;
    esac ;;
*--depends*) ;;
*)
    [[ ! ${BROKEN-} ]] || exit 1
    while [[ $1 == --* ]]; do [[ $1 == --no-deps ]] || shift; shift; done
    dir=$1
    shift
    for package in "$@"; do
        modules=$dir/usr/lib/modules/$VERSION
        [[ $LAYOUT != 12 ]] || modules=$dir/lib/modules/$VERSION
        case $package:$LAYOUT in
        linux-image-*:1[23])
            mkdir -p "$modules" "$dir/boot"
            touch "$modules/a.ko" "$dir/boot/"{vmlinuz,config}-"$VERSION"
            ;;
        linux-image-*) ;;
        linux-base-*) mkdir -p "$modules"; touch "$modules/config" ;;
        linux-binary-*) mkdir -p "$modules"; touch "$modules/vmlinuz" ;;
        linux-modules-*) mkdir -p "$modules"; touch "$modules/a.ko" ;;
        esac
    done ;;
esac
"""


class ScriptTest(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="scripts-")))
        self.cache = self.directory / "cache"
        self.programs = self.directory / "programs"
        self.programs.mkdir()
        self.environment = {**os.environ, "MINIVMM_CACHE": str(self.cache),
                            "PATH": f"{self.programs}:{os.environ['PATH']}"}

    def program(self, name: str, text: str):
        """Puts a program before the host's."""
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def run_script(self, *words: object, scripts: Path = SCRIPTS, **environment: str | None):
        chosen = {name: value for name, value in {**self.environment, **environment}.items()
                  if value is not None}
        return subprocess.run([scripts / str(words[0]), *map(str, words[1:])], env=chosen,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def check_refused(self, done, *wanted: str):
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for text in wanted:
            self.assertIn(text, done.stderr)


class Refusals(ScriptTest):
    """Each is one line that names the remedy."""

    USE_THE_CACHE = ("demo", "test", "fetch-kernel", "fetch-qemu", "setup-aarch64 build",
                     "unpack-packages --version x", "fresh 12 root true")

    def check_cache(self, *wanted: str, **environment: str | None):
        for script in self.USE_THE_CACHE:
            with self.subTest(script=script):
                self.check_refused(self.run_script(*script.split(), **environment), *wanted,
                                   "set MINIVMM_CACHE to a directory that you may write to")

    def test_no_home(self):
        self.check_cache("HOME is not set", HOME=None, MINIVMM_CACHE=None, XDG_CACHE_HOME=None)
        self.check_cache("HOME is not set", HOME="", MINIVMM_CACHE="", XDG_CACHE_HOME="")

    def test_a_home_that_cannot_be_written_to(self):
        self.check_cache("/proc/home/.cache/minivmm", HOME="/proc/home", MINIVMM_CACHE=None,
                         XDG_CACHE_HOME=None)

    def test_a_relative_cache(self):
        self.check_cache("the cache's path folder is not absolute", MINIVMM_CACHE="folder")
        self.check_cache("folder/minivmm is not absolute", MINIVMM_CACHE=None,
                         XDG_CACHE_HOME="folder")

    def test_lab_finds_the_same_cache(self):
        words = "../tests/lab/lab", "run", "--lane", "nested", "--", "true"
        self.check_refused(self.run_script(*words, MINIVMM_CACHE="folder"), "lab: the cache's path")

    def test_no_room_for_package_lists(self):
        self.program("df", "echo Avail; echo '   99'")
        self.program("apt-get", "exit 1")
        done = self.run_script("unpack-packages", "--version", "x")
        self.check_refused(done, "has 99: make room, or set MINIVMM_CACHE")

    def test_lab_tells_why_it_cannot_compile(self):
        self.program("cc", "echo no space left >&2; exit 1")
        done = self.run_script("../tests/lab/lab", "probe")
        self.assertRegex(done.stderr, r"\Ano space left\nlab: cannot compile \S+probe.c to \S+, see above\n\Z")

    def test_options_without_a_value(self):
        for words in (("demo", "--lane"), ("test", "--fresh"), ("fetch-kernel", "--arch"),
                      ("fetch-kernel", "--dest"), ("fetch-busybox", "--arch"),
                      ("fetch-qemu", "--arch"), ("mkrootfs", "out", "--size"),
                      ("unpack-packages", "--suite"), ("fuzz", "--minutes")):
            with self.subTest(words=words):
                self.check_refused(self.run_script(*words), f"{words[-1]} needs a value")

    def test_unknown_words(self):
        for script in ("demo", "test", "fetch-kernel", "fetch-busybox", "fetch-qemu", "mkrootfs",
                       "install-packages", "unpack-packages", "setup-aarch64", "fresh", "fuzz"):
            with self.subTest(script=script):
                self.check_refused(self.run_script(script, "--no-such"), f"{script} --help")

    def test_help(self):
        for script in ("demo", "test", "fetch-kernel", "fetch-busybox", "fetch-qemu", "mkrootfs",
                       "install-packages", "unpack-packages", "setup-aarch64", "fresh", "fuzz"):
            with self.subTest(script=script):
                done = self.run_script(script, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith(f"usage: {script}"), done.stdout)
                self.assertLess(len(done.stdout.splitlines()), 24)


class InstallPackages(ScriptTest):
    def setUp(self):
        super().setUp()
        self.program("dpkg-query", "exit 1")  # nothing is installed
        self.program("sudo", 'exec "$@"')
        self.calls = self.directory / "calls"
        self.environment["CALLS"] = str(self.calls)

    def test_without_sudo(self):
        if os.geteuid() == 0:
            self.skipTest("root needs no sudo")
        (self.programs / "sudo").unlink()
        for name in ("bash", "dirname", "realpath", "sed", "sort", "grep", "cat"):
            (self.programs / name).symlink_to(shutil.which(name))
        self.check_refused(self.run_script("install-packages", PATH=str(self.programs)),
                           "as root, apt-get install", "libslirp-dev")

    def test_lists_are_updated_once(self):
        self.program("apt-get", 'echo "$*" >>"$CALLS"; [[ $* == *update ]]')
        done = self.run_script("install-packages")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cannot install", done.stderr)
        self.assertEqual(len(self.calls.read_text().splitlines()), 3)

    def test_ctrl_c_ends_it(self):
        """apt-get catches it and ends as if it had failed."""
        self.program("apt-get", "trap 'exit 100' INT; echo called >>\"$CALLS\"; "
                                "while :; do sleep 0.1; done")
        for script in "install-packages", "demo":
            with self.subTest(script=script):
                self.calls.unlink(missing_ok=True)
                process = subprocess.Popen([SCRIPTS / script], env=self.environment,
                                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           start_new_session=True)
                deadline = time.monotonic() + WAIT
                while not self.calls.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                os.killpg(process.pid, signal.SIGINT)
                self.assertEqual(process.wait(WAIT), 130)
                self.assertEqual(self.calls.read_text(), "called\n")


class Cache(ScriptTest):
    """fetch-kernel, with a stand-in for Debian's archive."""

    def setUp(self):
        super().setUp()
        self.scripts = self.directory / "scripts"
        shutil.copytree(SCRIPTS, self.scripts)
        (self.scripts / "unpack-packages").write_text(UNPACK)
        self.program("depmod", 'touch "$2/lib/modules/$3/modules.dep"')
        self.log = self.directory / "log"
        self.environment |= {"LOG": str(self.log), "VERSION": "6.1.0-1-cloud", "LAYOUT": "12"}
        release = subprocess.run([". /etc/os-release; echo $ID${VERSION_ID-}"], shell=True,
                                 check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.release = release

    def fetch(self, **environment: str) -> Path:
        done = self.run_script("fetch-kernel", scripts=self.scripts, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return Path(done.stdout.rstrip("\n"))

    def unpacked(self) -> int:
        return self.log.read_text().count("--no-deps")

    def left_over(self) -> list[str]:
        return [path.name for path in self.cache.glob("making-*")]

    def test_every_layout_becomes_one(self):
        for layout, version in (("12", "6.1.0-1-cloud"), ("13", "6.12.1+deb13-cloud"),
                                ("14", "7.2.12+deb14-cloud")):
            with self.subTest(layout=layout):
                kernel = self.fetch(LAYOUT=layout, VERSION=version)
                top = kernel.parent.parent
                self.assertEqual(sorted(str(path.relative_to(top)) for path in top.rglob("*")
                                        if path.is_file() and path.name != ".made"),
                                 [f"boot/config-{version}", f"boot/vmlinuz-{version}",
                                  f"lib/modules/{version}/a.ko",
                                  f"lib/modules/{version}/modules.dep"])
                self.assertEqual(kernel.name, f"vmlinuz-{version}")
                self.assertTrue(top.name.endswith(f"-{self.release}-{version}"), top.name)

    def test_made_once(self):
        self.assertEqual(self.fetch(), self.fetch())
        self.assertEqual(self.unpacked(), 1)

    def test_a_newer_version_is_fetched(self):
        self.fetch()
        self.assertEqual(self.fetch(VERSION="6.1.0-2-cloud").name, "vmlinuz-6.1.0-2-cloud")

    def test_without_network_the_newest_is_taken(self):
        for number in 9, 10:
            newest = self.fetch(VERSION=f"6.1.0-{number}-cloud")
        self.assertEqual(self.fetch(OFFLINE="1"), newest)

    def test_without_network_and_cache(self):
        done = self.run_script("fetch-kernel", scripts=self.scripts, OFFLINE="1")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("none can be fetched", done.stderr)

    def test_lost_files_are_fetched_again(self):
        for name in "vmlinuz", "config":
            kernel = self.fetch()
            next(kernel.parent.glob(f"{name}-*")).unlink()
            self.assertTrue(self.fetch().exists())
        self.assertEqual(self.unpacked(), 3)

    def test_a_failure_leaves_nothing(self):
        done = self.run_script("fetch-kernel", scripts=self.scripts, BROKEN="1")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.left_over(), [])
        self.assertTrue(self.fetch().exists())

    def test_unused_versions_are_deleted(self):
        old, recent = self.fetch(), self.fetch(VERSION="6.1.0-2-cloud")
        unversioned = self.cache / old.parent.parent.name.partition(f"-{self.release}-")[0]
        unversioned.mkdir()
        for path in old.parent.parent, unversioned:
            os.utime(path, (0, 0))
        newest = self.fetch(VERSION="6.1.0-3-cloud")
        self.assertEqual([path.exists() for path in (old, unversioned, recent, newest)],
                         [False, False, True, True])


# Stands in for a fuzz target. "bad" fails on the input that it finds.
TARGET = """#!/bin/bash
for word in "$@"; do
    case $word in
    -artifact_prefix=*) prefix=${word#*=} ;;
    -exact_artifact_path=*) short=${word#*=} ;;
    -merge=1) merge=1 ;;
    -*) ;;
    *) first=${first-$word} ;;
    esac
done
if [[ ${short-} ]]; then
    echo short >"$short"
elif [[ ${merge-} ]]; then
    echo more >"$first/0123456789012345678901234567890123456789"
elif [[ $0 == *-bad ]]; then
    [[ ! ${prefix-} ]] || echo long >"${prefix}crash-1"
    echo "SUMMARY: of a fault"
    exit 77
else
    printf '%s\n' '#5 DONE cov: 7' 'stat::number_of_executed_units: 5'
fi
"""


class Fuzz(ScriptTest):
    def setUp(self):
        super().setUp()
        self.tree = self.directory / "tree"
        self.targets = self.tree / "build-fuzz/tests/fuzz"
        self.targets.mkdir(parents=True)
        (self.tree / "scripts").mkdir()
        (self.tree / "build-fuzz/build.ninja").touch()
        for name in "fuzz", "common.sh":
            shutil.copy(SCRIPTS / name, self.tree / "scripts")
        for program in self.programs / "ninja", self.tree / "scripts/install-packages":
            program.write_text("#!/bin/bash\n")
            program.chmod(0o755)

    def fuzz(self, *words: str, targets: tuple[str, ...]):
        for name in targets:
            (self.targets / f"fuzz-{name}").write_text(TARGET)
            (self.targets / f"fuzz-{name}").chmod(0o755)
            (self.tree / "tests/fuzz/corpus" / name).mkdir(parents=True)
        return self.run_script("fuzz", "--minutes", 1, *words, scripts=self.tree / "scripts")

    def test_tells_runs_and_edges(self):
        done = self.fuzz(targets=("good",))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^ok - fuzz good: 5 runs in [\d.]+ s of CPU, \d+/s, 7 edges$")
        self.assertRegex((self.tree / "build-fuzz/history").read_text(), r"^\S+ good 5 [\d.]+ 7$")
        self.assertEqual(list((self.tree / "tests/fuzz/corpus/good").iterdir()), [])

    def test_keeps_what_reaches_more(self):
        self.assertEqual(self.fuzz("--keep", targets=("good",)).returncode, 0)
        self.assertEqual(len(list((self.tree / "tests/fuzz/corpus/good").iterdir())), 1)

    def test_a_failure_is_told_and_left(self):
        done = self.fuzz(targets=("bad", "good"))
        self.assertEqual(done.returncode, 1)
        for line in "not ok - fuzz bad", "SUMMARY: of a fault", "ok - fuzz good":
            self.assertIn(line, done.stdout)
        self.assertEqual((self.tree / "build-fuzz/found/bad-crash-1-short").read_text(), "short\n")

    def test_an_unknown_target(self):
        self.check_refused(self.fuzz("none", targets=("good",)), "no target none")


if __name__ == "__main__":
    unittest.main()
