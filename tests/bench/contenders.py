# SPDX-License-Identifier: MIT
"""The command line of each VMM for a given guest."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measure import Failed


@dataclass(frozen=True)
class Guest:
    kernel: Path  # an ELF file or a bzImage
    initrd: Path | None = None
    cmdline: str = "console=ttyS0"
    memory: int = 128  # MiB
    cpus: int = 1
    disks: tuple[Path, ...] = ()
    engine: str = "io_uring"  # for the disks; or thread
    direct: bool = False      # O_DIRECT
    user_net: bool = False
    tap: str = ""        # an interface
    vhost: bool = False  # vhost-net for the tap
    end: str = "power-off"  # what the guest does last; or reset


def minivmm(path: str, guest: Guest) -> list:
    vhost = "on" if guest.vhost else "off"
    net = (f"tap,name={guest.tap},vhost={vhost}" if guest.tap
           else "user,host-loopback" if guest.user_net else "none")
    words = [path, "--no-reboot", "--memory", f"{guest.memory}M", "--cpus", guest.cpus,
             "--net", net, "--no-rng",
             "--kernel", guest.kernel, "--cmdline", guest.cmdline]
    if guest.initrd:
        words += ["--initrd", guest.initrd]
    for disk in guest.disks:
        words += ["--disk", f"{disk},engine={guest.engine}{',direct' if guest.direct else ''}"]
    return words


def qemu(path: str, guest: Guest) -> list:
    """With an RTC, as Linux would otherwise search for one for more than a second. Without
    arch-capabilities, whose MSR some emulated KVMs refuse."""
    words = [path, "-M", "microvm,acpi=on,pit=off,pic=off,rtc=on,isa-serial=on",
             "-accel", "kvm", "-cpu", "host,-arch-capabilities", "-m", guest.memory,
             "-smp", guest.cpus, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
             "-global", "virtio-mmio.force-legacy=false",
             "-kernel", guest.kernel, "-append", guest.cmdline]
    if guest.initrd:
        words += ["-initrd", guest.initrd]
    aio = "io_uring" if guest.engine == "io_uring" else "threads"
    cache = "none" if guest.direct else "writeback"
    for number, disk in enumerate(guest.disks):
        words += ["-drive",
                  f"if=none,id=d{number},file={disk},format=raw,aio={aio},cache={cache}",
                  "-device", f"virtio-blk-device,drive=d{number}"]
    if guest.user_net:
        words += ["-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n"]
    if guest.tap:
        words += ["-netdev", f"tap,id=n,ifname={guest.tap},script=no,downscript=no,"
                             f"vhost={'on' if guest.vhost else 'off'}",
                  "-device", "virtio-net-device,netdev=n"]
    return words


def kvmtool(path: str, guest: Guest) -> list:
    words = [path, "run", "--kernel", guest.kernel, "--params", guest.cmdline,
             "--mem", guest.memory, "--cpus", guest.cpus, "--console", "serial",
             "--network", f"mode=tap,tapif={guest.tap}" if guest.tap
             else f"mode={'user' if guest.user_net else 'none'}"]
    if guest.initrd:
        words += ["--initrd", guest.initrd]
    for disk in guest.disks:
        words += ["--disk", disk]
    return words


def cloud_hypervisor(path: str, guest: Guest) -> list:
    if guest.user_net:
        raise Failed("it has no user-mode network")
    words = [path, "--kernel", guest.kernel, "--cmdline", guest.cmdline,
             "--memory", f"size={guest.memory}M", "--cpus", f"boot={guest.cpus}",
             "--serial", "tty", "--console", "off"]
    if guest.initrd:
        words += ["--initramfs", guest.initrd]
    if guest.disks:
        words += ["--disk", *(f"path={disk},image_type=raw" for disk in guest.disks)]
    if guest.tap:
        words += ["--net", f"tap={guest.tap}"]
    return words


def firecracker(path: str, guest: Guest) -> list:
    """Needs a configuration file. Logs to standard output unless told not to."""
    if guest.user_net:
        raise Failed("it has no user-mode network")
    source = {"kernel_image_path": str(guest.kernel), "boot_args": guest.cmdline}
    if guest.initrd:
        source["initrd_path"] = str(guest.initrd)
    drives = [{"drive_id": f"d{number}", "path_on_host": str(disk), "is_root_device": False}
              for number, disk in enumerate(guest.disks)]
    file = Path(tempfile.gettempdir()) / f"firecracker-{abs(hash(guest))}.json"
    file.write_text(json.dumps({
        "boot-source": source, "drives": drives,
        "network-interfaces": [{"iface_id": "n", "host_dev_name": guest.tap}] if guest.tap else [],
        "machine-config": {"vcpu_count": guest.cpus, "mem_size_mib": guest.memory}}))
    return [path, "--no-api", "--level", "Off", "--config-file", file]


@dataclass(frozen=True)
class Kind:
    start: Callable[[str, Guest], list]
    formats: tuple[str, ...] = ("ELF", "bzImage")
    ends_by: tuple[str, ...] = ("power-off", "reset")  # what ends its process


KINDS = {
    "minivmm": Kind(minivmm),
    "qemu": Kind(qemu),
    "kvmtool": Kind(kvmtool, formats=("bzImage",), ends_by=("reset",)),
    "cloud-hypervisor": Kind(cloud_hypervisor, ends_by=("power-off",)),  # a reset reboots it
    "firecracker": Kind(firecracker, formats=("ELF",), ends_by=("reset",)),
}


def format_of(kernel: Path) -> str:
    with kernel.open("rb") as file:
        return "ELF" if file.read(4) == b"\x7fELF" else "bzImage"


@dataclass(frozen=True)
class Contender:
    name: str  # one of KINDS, perhaps with a suffix: minivmm-old
    path: str
    kind: Kind = field(repr=False)

    def command(self, guest: Guest) -> list[str]:
        """Raises Failed for a guest that this VMM cannot run."""
        if (form := format_of(guest.kernel)) not in self.kind.formats:
            raise Failed(f"it boots no {form}")
        return [str(word) for word in self.kind.start(self.path, guest)]

    def ends(self, guest: Guest) -> bool:
        """Whether its process ends with the guest."""
        return guest.end in self.kind.ends_by


def contender(name: str, path: str) -> Contender:
    """Raises KeyError for an unknown VMM."""
    kind = next((kind for kind in KINDS if name == kind or name.startswith(f"{kind}-")), name)
    return Contender(name, str(path), KINDS[kind])


def installed_qemu() -> list[Contender]:
    path = shutil.which("qemu-system-x86_64")
    return [contender("qemu", path)] if path else []
