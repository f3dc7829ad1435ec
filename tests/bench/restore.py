# SPDX-License-Identifier: MIT
"""Restore of a saved machine, to the first output of its guest, on the host's own KVM. The guest
prints for ever, so whatever it does first after the restore is seen."""

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contenders import KINDS, Contender, Guest
from measure import Failed, Figure, stopwatch, take_turns
from start import MARKER, TIME_LIMIT

RESTORED = "restore: exec to the guest's first output"
SPARE = "spare: order to the guest's first output"
SIZES = (128, 2048, 8192)  # MiB

Request = tuple[str, str, dict]  # of HTTP: method, path, body


@dataclass(frozen=True)
class Snapshots:
    """How a VMM saves a machine in a directory, and what makes it go on from there. Commands serve
    an API at a socket, to which the requests are sent."""
    start: Callable[[str, Guest, Path], list]
    save: Callable[[Path], list[Request]]
    restore: Callable[[str, Path, Path], list]
    load: Callable[[Path], list[Request]] = lambda directory: []
    save_command: Callable[[str, Path, Path], list] | None = None  # instead of requests


def firecracker_start(path: str, guest: Guest, api: Path) -> list:
    words = KINDS["firecracker"].start(path, guest)
    return [word for word in words if word != "--no-api"] + ["--api-sock", api]


def firecracker_save(directory: Path) -> list[Request]:
    return [("PATCH", "/vm", {"state": "Paused"}),
            ("PUT", "/snapshot/create", {"snapshot_type": "Full",
                                         "snapshot_path": str(directory / "state"),
                                         "mem_file_path": str(directory / "memory")})]


def firecracker_load(directory: Path) -> list[Request]:
    return [("PUT", "/snapshot/load", {"snapshot_path": str(directory / "state"), "resume_vm": True,
                                       "mem_backend": {"backend_type": "File",
                                                       "backend_path": str(directory / "memory")}})]


def cloud_hypervisor_save(directory: Path) -> list[Request]:
    return [("PUT", "/api/v1/vm.pause", {}),
            ("PUT", "/api/v1/vm.snapshot", {"destination_url": f"file://{directory}"})]


SNAPSHOTS = {
    "minivmm": Snapshots(
        start=lambda path, guest, api: [*KINDS["minivmm"].start(path, guest), "--control", api],
        save=lambda directory: [],
        save_command=lambda path, directory, api: [path, "snapshot", api, directory / "snapshot"],
        restore=lambda path, directory, api: [path, "restore", directory / "snapshot"]),
    "firecracker": Snapshots(
        start=firecracker_start, save=firecracker_save, load=firecracker_load,
        restore=lambda path, directory, api: [path, "--level", "Off", "--api-sock", api]),
    "cloud-hypervisor": Snapshots(
        start=lambda path, guest, api: [*KINDS["cloud-hypervisor"].start(path, guest),
                                        "--api-socket", api],
        save=cloud_hypervisor_save,
        restore=lambda path, directory, api: [
            path, "--restore",
            f"source_url=file://{directory},resume=true,memory_restore_mode=ondemand"]),
}


def snapshots_of(each: Contender) -> Snapshots | None:
    return next((found for name, found in SNAPSHOTS.items()
                 if each.name == name or each.name.startswith(f"{name}-")), None)


def connect(api: Path) -> socket.socket:
    """Waits for the socket: whoever makes it says nothing."""
    deadline = time.monotonic() + TIME_LIMIT
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(api))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise Failed(f"no socket {api}") from None
            time.sleep(0.0001)


def ask(api: Path, requests: list[Request]):
    """The stopwatch may end the VMM, at its guest's first output, before it has answered."""
    if not requests:
        return
    with connect(api) as connection:
        connection.settimeout(TIME_LIMIT * 4)
        for method, path, body in requests:
            text = json.dumps(body) if body else ""
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
                               f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
            try:
                answer = connection.recv(65536).decode(errors="replace")
            except ConnectionError:
                answer = ""
            if answer and answer.split(" ")[1:2] not in (["200"], ["204"]):
                raise Failed(f"{path}: {answer}")


def save(each: Contender, guest: Guest, directory: Path):
    """Runs the guest to its first output, and saves it."""
    how, api, output = snapshots_of(each), directory / "api", directory / "output"
    command = [str(word) for word in how.start(each.path, guest, api)]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file,
                                   stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TIME_LIMIT
        while MARKER not in output.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed("the guest to be saved prints nothing")
            time.sleep(0.01)
        ask(api, how.save(directory))
        if how.save_command:
            command = map(str, how.save_command(each.path, directory, api))
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                raise Failed("the guest is not saved")
    finally:
        process.kill()
        process.wait()


def take_peer(each: Contender, case: str, tools: Path, directory: Path, *options: str
              ) -> Iterator[Figure]:
    how, api = snapshots_of(each), directory / "api"
    api.unlink(missing_ok=True)
    command = [*map(str, how.restore(each.path, directory, api)), *options]
    done = stopwatch(tools / "bench-stopwatch", command,
                     MARKER, TIME_LIMIT, ends=False, meanwhile=lambda: ask(api, how.load(directory)))
    yield Figure(RESTORED, case, " ".join([each.name, *options]), "ms", done.seen)


def take_floor(table: str, name: str, mode: str, case: str, tools: Path, directory: Path
               ) -> Iterator[Figure]:
    done = stopwatch(tools / "bench-stopwatch", [tools / "bench-floor-restore", mode, directory],
                     MARKER, TIME_LIMIT, order=mode == "spare")
    yield Figure(table, case, name, "ms", done.seen)


def save_floor(tools: Path, size: int, directory: Path):
    subprocess.run([tools / "bench-floor-restore", "save", tools / "repeat-bzimage.bin", str(size),
                    directory], check=True, stdout=subprocess.DEVNULL)


def restores_of_floor(tools: Path, case: str, size: int, directory: Path, memory: Path
                      ) -> dict[str, Callable]:
    """`memory` is a directory in a tmpfs, whose files are what a memfd is."""
    for place in (directory, memory):
        save_floor(tools, size, place)
    return {"floor": partial(take_floor, RESTORED, "floor", "load", case, tools, directory),
            "floor, tmpfs": partial(take_floor, RESTORED, "floor, tmpfs", "load", case, tools, memory),
            "floor's spare": partial(take_floor, SPARE, "floor", "spare", case, tools, directory)}


def measure_restore(contenders: list[Contender], tools: Path, scratch: Path, turns: int, quick: bool
                    ) -> Iterator[Figure]:
    for size in SIZES[:1] if quick else SIZES:
        case = f"{size} MiB"
        with (tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
              tempfile.TemporaryDirectory(dir=scratch) as files):
            directory = Path(files) / "floor"
            directory.mkdir()
            rows = restores_of_floor(tools, case, size, directory, Path(memory))
            for each in filter(snapshots_of, contenders):
                directory = Path(files) / each.name
                directory.mkdir()
                try:
                    save(each, Guest(tools / "repeat.elf", memory=size), directory)
                except (Failed, OSError) as error:
                    rows[each.name] = partial(refuse, error)
                else:
                    rows[each.name] = partial(take_peer, each, case, tools, directory)
                    if each.name == "minivmm":
                        rows["minivmm --sandbox=off"] = partial(
                            take_peer, each, case, tools, directory, "--sandbox=off")
            yield from take_turns(case, turns, rows)


def refuse(error: Exception):
    raise error
