# SPDX-License-Identifier: MIT
"""The nested lane: a small Linux with KVM on a CPU that QEMU emulates.

QEMU (L0) emulates a machine whose CPU has virtualization; Debian's kernel
boots on it (L1) and runs a command that may use /dev/kvm. L1 has two disks:
its root, made once and cached, and the caller's files, made for each run.
Output comes back over ports of a virtio-serial device; the log of L1's kernel
goes to a file.
"""

import ctypes
import fcntl
import functools
import hashlib
import inspect
import os
import platform
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAB = Path(__file__).resolve().parent
SCRIPTS = LAB.parent.parent / "scripts"
MIB = 1 << 20
# Seconds without a heartbeat from L1, which sends one every 5 s of its own time; under the
# instruction clock those may be long.
STALL = 120
STALL_ICOUNT = 600
UNUSED = 30 * 24 * 3600  # seconds, after which an image is deleted
EXIT_TIMEOUT = 124
EXIT_FAILED = 125


class LabError(Exception):
    pass


class Stalled(LabError):
    """L1 makes no progress: happens occasionally on a busy host, whatever runs in it."""


# A disk in memory has no latency, so runs by the instruction clock repeat.
MEMORY_DISK = (
    "-object", "memory-backend-file,id={name},mem-path={path},size={size},share=off",
    "-device", "virtio-pmem-pci,memdev={name}",
)
BLOCK_DISK = (
    "-drive", "if=none,id={name},file={path},format=raw,snapshot=on",
    "-device", "virtio-blk-pci,drive={name}",
)


@dataclass(frozen=True)
class Machine:
    debian: str            # Debian's name for the architecture
    qemu: str
    options: tuple[str, ...]
    features: str          # of the CPU "max", after its name
    disk: tuple[str, ...]  # QEMU's options for a disk with {name}, {path} and {size}
    console: str
    modules: tuple[str, ...]


MACHINES = {
    "x86_64": Machine(
        debian="amd64",
        qemu="qemu-system-x86_64",
        options=("-machine", "q35"),
        features="",
        disk=MEMORY_DISK,
        # Nothing checks that the timer ticks in time, which it may not on a busy host.
        console="ttyS0 no_timer_check",
        modules=("kvm_amd", "fuse", "tun", "vhost_net", "virtio_pci", "nd_pmem", "virtio_pmem"),
    ),
    "aarch64": Machine(
        debian="arm64",
        qemu="qemu-system-aarch64",
        options=("-machine", "virt,virtualization=on,gic-version=3"),
        features=",pauth-impdef=on",
        disk=BLOCK_DISK,  # this QEMU has no virtio-pmem
        console="ttyAMA0",
        modules=("fuse", "tun", "vhost_net", "virtio_pci"),
    ),
}

ROOT_PACKAGES = """
    acpica-tools bash busybox coreutils curl dash diffutils e2fsprogs findutils
    gawk grep hostname iperf3 iproute2 iputils-ping kmod less libfdt1 libjansson4 libslirp0
    liburing2 libzstd1 mount procps psmisc python3 sed strace tmux util-linux
    zlib1g
""".split()

ROOT_INIT = """#!/bin/sh
mount -t ext4 -o nobarrier LABEL=lab-files /files
exec /bin/sh /files/.lab/init
"""


@functools.cache
def common() -> tuple[Path, str]:
    """The cache and the name of the host's release, as scripts/common.sh finds them."""
    done = subprocess.run(
        ["bash", "-c", '. "$1/common.sh" && find_cache && echo "$cache" && echo "$release"',
         "lab", SCRIPTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise LabError(done.stderr.strip().removeprefix("lab: "))
    directory, release = done.stdout.splitlines()
    return Path(directory), release


def cache() -> Path:
    return common()[0]


def release() -> str:
    return common()[1]


def script(name: str, *arguments: object) -> str:
    command = [str(SCRIPTS / name), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise LabError(f"{name} failed")
    return done.stdout.strip()


def content_key(*things: object) -> str:
    return hashlib.sha256(repr(things).encode()).hexdigest()[:12]


def make_ext4(tree: Path, image: Path, label: str, spare: int):
    """Makes IMAGE from TREE; its size is a multiple of 2 MiB, as pmem needs."""
    used = sum(file.lstat().st_blocks * 512 + 4096 for file in tree.rglob("*"))
    size = (used + used // 8 + spare) // (2 * MIB) * (2 * MIB) + 2 * MIB
    tool = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not tool:
        raise LabError("mke2fs is missing: scripts/install-packages lab")
    done = subprocess.run(
        [tool, "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-m", "0", "-L", label,
         "-E", "root_owner=0:0", "-d", str(tree), str(image), f"{size // 1024}k"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise LabError(f"mke2fs: {done.stderr.strip()}")


# Parts that are made once and cached.

def made_once(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """Returns a cached image for this release, made by MAKE if it is missing. Waits for other
    processes that make it. Deletes others of its kind that were not used for 30 days."""
    path = cache() / f"{kind}-{release()}-{key}.img"
    with open(cache() / "lab.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=cache(), prefix="making-") as directory:
                part = Path(directory) / "part"
                make(part)
                part.rename(path)
        path.touch()
        for other in cache().glob(f"{kind}-*.img"):
            if other.stat().st_mtime < time.time() - UNUSED:
                other.unlink()
    return path


def qemu(machine: Machine) -> list[str]:
    """The command that starts QEMU with its own libraries and loader."""
    top = Path(script("fetch-qemu", "--arch", machine.debian))
    triplet = f"{platform.machine()}-linux-gnu"
    loader = next(path for pattern in ("lib/ld-linux-*", "lib64/ld-linux-*", "usr/lib*/ld-linux-*")
                  for path in top.glob(pattern))
    libraries = f"{top}/usr/lib/{triplet}:{top}/lib/{triplet}"
    return [str(loader), "--library-path", libraries, f"{top}/usr/bin/{machine.qemu}",
            "-L", f"{top}/usr/share/qemu", "-L", f"{top}/usr/share/seabios"]


def point_release() -> str:
    """Changes when the host is upgraded: "12.15". Empty if this is not Debian."""
    file = Path("/etc/debian_version")
    return file.read_text().strip() if file.exists() else ""


def root_image(machine: Machine, extra_packages: list[str]) -> Path:
    packages = sorted({*ROOT_PACKAGES, *extra_packages})
    key = content_key(packages, ROOT_INIT, inspect.getsource(finish_root), point_release())

    def make(image: Path):
        tree = image.with_name("tree")
        script("unpack-packages", "--arch", machine.debian, tree, *packages)
        finish_root(tree)
        make_ext4(tree, image, "lab-root", 64 * MIB)

    return made_once(f"lab-root-{machine.debian}", key, make)


def finish_root(tree: Path):
    """Does what the packages' maintainer scripts would have done."""
    for name in ("bin", "sbin", "lib", "lib64"):
        top, merged = tree / name, tree / "usr" / name
        merged.mkdir(exist_ok=True)
        if top.is_dir() and not top.is_symlink():
            subprocess.run(["cp", "-al", "-n", f"{top}/.", merged], check=True)
            shutil.rmtree(top)
        if not top.is_symlink():
            top.symlink_to(f"usr/{name}")
    for name, target in (("sh", "dash"), ("awk", "gawk"), ("which", "busybox")):
        link = tree / "usr/bin" / name
        if not link.is_symlink():
            link.symlink_to(target)
    # The files' owner may not be root.
    subprocess.run(["chmod", "-R", "u-s,g-s", tree / "usr"], check=True)
    for name in ("doc", "man", "locale", "info"):
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "files", "etc"):
        (tree / name).mkdir(exist_ok=True)
    (tree / "etc/passwd").write_text("root::0:0:root:/root:/bin/bash\n")
    (tree / "etc/group").write_text("root:x:0:\ntty:x:5:\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost lab\n::1 localhost\n")
    init = tree / "usr/sbin/init"
    init.unlink(missing_ok=True)
    init.write_text(ROOT_INIT)
    init.chmod(0o755)


def kernel(machine: Machine) -> Path:
    return Path(script("fetch-kernel", "--arch", machine.debian))


def initrd_image(machine: Machine, kernel_image: Path) -> Path:
    makers = [(SCRIPTS / name).read_text() for name in ("mkinitrd", "guest/init")]
    key = content_key(makers, machine.modules, str(kernel_image))
    modules = [word for name in machine.modules for word in ("--module", name)]
    return made_once(
        f"lab-initrd-{machine.debian}", key,
        lambda image: script("mkinitrd", kernel_image.parent.parent, image, *modules))


# One run.

@dataclass
class Run:
    arch: str
    command: list[str]
    brought: list[tuple[Path, str]]
    environment: dict[str, str]
    timeout: float
    log: Path
    packages: list[str]
    memory: int = 4096
    icount: bool = False
    seed: int = 42
    cpu: str = "max"
    interactive: bool = False


def place(path: Path, target: Path, private: bool):
    """Copies PATH to TARGET, or makes hard links unless PRIVATE, for files that may be written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    ways = [[]] if private else [["--link"], []]
    for way in ways:
        command = ["cp", "-aT", "-H", "--sparse=always", "--reflink=auto", *way]
        if not subprocess.run([*command, path, target], stderr=subprocess.DEVNULL).returncode:
            return
        shutil.rmtree(target, ignore_errors=True)
    raise LabError(f"cannot copy {path}")


def is_program(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def add_libraries(tree: Path, directory: Path):
    """Copies the libraries of the programs in TREE; L1 installs those that it lacks."""
    directory.mkdir(parents=True)
    for program in filter(is_program, tree.rglob("*")):
        listing = subprocess.run(["ldd", program], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True).stdout
        for line in listing.splitlines():
            name, _, rest = line.strip().partition(" => ")
            library = rest.split(" (")[0]
            if library.startswith("/") and not (directory / name).exists():
                shutil.copy(library, directory / name)


def files_image(run: Run, directory: Path) -> Path:
    tree = directory / "files"
    tree.mkdir()
    for path, name in run.brought:
        place(path, tree / name, private=False)
    own = tree / ".lab"
    own.mkdir()
    if run.arch == platform.machine():
        add_libraries(tree, own / "lib")
    shutil.copy(LAB / "l1-init", own / "init")
    environment = {**run.environment, "LAB_LANE": "nested", "LAB_FILES": "/files",
                   "TMPDIR": "/tmp"}
    if run.icount:
        environment["LAB_SEED"] = str(run.seed)
    if run.interactive and sys.stdin.isatty():
        size = os.get_terminal_size()
        environment |= {"LAB_COLUMNS": str(size.columns), "LAB_ROWS": str(size.lines),
                        "TERM": os.environ.get("TERM", "linux")}
    exports = "".join(f"export {name}={shlex.quote(value)}\n"
                      for name, value in environment.items())
    (own / "environment").write_text(exports)
    (own / "command").write_text(f"exec {shlex.join(run.command)}\n")
    image = directory / "files.img"
    make_ext4(tree, image, "lab-files", 64 * MIB)
    return image


def qemu_command(run: Run, files: int, channels: dict[str, int]) -> list[str]:
    machine = MACHINES[run.arch]
    kernel_image = kernel(machine)
    append = (f"console={machine.console} panic=-1 quiet loglevel=5 root=LABEL=lab-root rw "
              "rootfstype=ext4 rootflags=nobarrier random.trust_cpu=on mitigations=off nokaslr")
    memory = f"{run.memory}M"
    if machine.disk is MEMORY_DISK:
        memory += f",slots=2,maxmem={run.memory + 65536}M"
    command = [
        *qemu(machine), *machine.options,
        "-cpu", run.cpu + (machine.features if run.cpu == "max" else ""),
        "-smp", "1", "-m", memory,
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
        "-no-reboot", "-serial", f"file:{run.log}",
        "-kernel", str(kernel_image), "-initrd", str(initrd_image(machine, kernel_image)),
        "-append", append,
        "-device", "virtio-serial-pci", "-accel", "tcg,thread=single",
    ]
    if not run.icount:
        # If a one-shot timer is lost, L1 hangs; a periodic tick continues.
        command[command.index("-append") + 1] += " nohz=off highres=off"
    else:
        command += ["-icount", "shift=0,sleep=off", "-rtc", "base=2024-01-01,clock=vm",
                    "-seed", str(run.seed)]
    disks = {"root": root_image(machine, run.packages), "files": f"/dev/fd/{files}"}
    for name, path in disks.items():
        size = os.stat(path).st_size
        command += [word.format(name=name, path=path, size=size) for word in machine.disk]
    for name, descriptor in channels.items():
        command += ["-chardev", f"file,id={name},path=/dev/fd/{descriptor}",
                    "-device", f"virtserialport,chardev={name},name=lab-{name}"]
    if run.interactive:
        command += ["-chardev", "stdio,id=terminal,signal=off",
                    "-device", "virtconsole,chardev=terminal"]
    return command


def die_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def relay(outputs: dict[int, int | None], process: subprocess.Popen, deadline: float,
          stall: float) -> bool:
    """Copies outputs (None: discards) until they end. False if the deadline passed first."""
    with selectors.DefaultSelector() as selector:
        for source in outputs:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(timeout=max(0.0, min(left, stall)))
            if not ready and left > stall:
                raise Stalled("L1 stalls")
            if not ready:
                return False
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                while data and outputs[key.fd] is not None:
                    data = data[os.write(outputs[key.fd], data):]
    try:
        process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def run(run: Run) -> int:
    """Runs a command in L1 and returns its exit status."""
    with tempfile.TemporaryDirectory(dir=cache(), prefix="lab-run-") as directory:
        # Afterwards the image has no name, so it cannot be left behind.
        files = files_image(run, Path(directory)).open("r+b")
    with files:
        return run_with(run, files.fileno())


def run_with(run: Run, files: int) -> int:
    status_read, status_write = os.pipe()
    readers = {"status": status_read}
    channels = {"status": status_write}
    if not run.interactive:
        for name in ("stdout", "stderr", "alive"):
            readers[name], channels[name] = os.pipe()
    command = qemu_command(run, files, channels)
    # Another run may still be writing to the previous log.
    run.log.unlink(missing_ok=True)

    process = subprocess.Popen(
        command, pass_fds=[files, *channels.values()], preexec_fn=die_with_parent,
        stdin=None if run.interactive else subprocess.DEVNULL,
        stdout=None if run.interactive else sys.stderr,
        env={**os.environ, "QEMU_MODULE_DIR": "/nonexistent"})
    for descriptor in channels.values():
        os.close(descriptor)
    try:
        if run.interactive:
            process.wait()
            in_time = True
        else:
            outputs = {readers["stdout"]: 1, readers["stderr"]: 2, readers["alive"]: None}
            in_time = relay(outputs, process, time.monotonic() + run.timeout,
                            STALL_ICOUNT if run.icount else STALL)
    finally:
        process.kill()
        process.wait()
    if not in_time:
        print(f"lab: the time limit of {run.timeout:.0f} s has expired; L1's log is {run.log}",
              file=sys.stderr)
        return EXIT_TIMEOUT
    with open(status_read) as status:
        text = status.read().strip()
    if not text:
        tail = run.log.read_text(errors="replace").splitlines()[-20:]
        print("\n".join(tail), file=sys.stderr)
        raise LabError(f"L1 did not finish, its log is {run.log}")
    return int(text)
