#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a command on a host of its own: without a network but ::1, where its only name server is.

usage: unshare --mount --net name_server.py DIRECTORY COMMAND...

The server answers each question for an IPv4 address with 192.0.2.7 and writes the name to
DIRECTORY/asked. /etc is a copy.
"""

import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

RESOLVER = "search lab.example\nnameserver ::1\n"


def name_of(question: bytes) -> tuple[str, int]:
    """The name that is asked for, and the length of its record."""
    labels, at = [], 0
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 5


def answer(query: bytes, log) -> bytes:
    name, length = name_of(query[12:])
    kind = struct.unpack_from(">H", query, 12 + length - 4)[0]
    print(name, file=log, flush=True)
    answers = struct.pack(">HHHIH4B", 0xc00c, 1, 1, 60, 4, 192, 0, 2, 7) if kind == 1 else b""
    return query[:2] + struct.pack(">5H", 0x8180, 1, bool(answers), 0, 0) + query[12 : 12 + length] + answers


def serve(server: socket.socket, log):
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, log), client)


def main() -> int:
    directory, *command = sys.argv[1:]
    etc = Path(directory) / "etc"
    shutil.copytree("/etc", etc, symlinks=True)
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").write_text(RESOLVER)
    subprocess.run(["mount", "--bind", etc, "/etc"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::1", 53))
    with open(Path(directory) / "asked", "w") as log:
        threading.Thread(target=serve, args=(server, log), daemon=True).start()
        return subprocess.run(command).returncode


sys.exit(main())
