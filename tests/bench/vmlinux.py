# SPDX-License-Identifier: MIT
"""The ELF file inside a bzImage, for a VMM that boots nothing else."""

import struct
import subprocess
from pathlib import Path

# Magic number of the compressed payload (Documentation/arch/x86/boot.rst, payload_offset), and what
# decompresses it.
PROGRAMS = {b"\xfd7zXZ": ["xz", "-dc", "--single-stream"], b"\x28\xb5\x2f\xfd": ["zstd", "-dcq"],
            b"\x02\x21\x4c\x18": ["lz4", "-dc"], b"\x1f\x8b": ["gzip", "-dcq"]}
SETUP_SECTORS, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x1f1, 0x248, 0x24c


def extract(kernel: Path, target: Path) -> Path:
    if target.exists():
        return target
    image = kernel.read_bytes()
    begin = (image[SETUP_SECTORS] + 1) * 512 + struct.unpack_from("<I", image, PAYLOAD_OFFSET)[0]
    length, = struct.unpack_from("<I", image, PAYLOAD_LENGTH)
    payload = image[begin:begin + length - 4]  # the size follows
    program = next((program for magic, program in PROGRAMS.items() if payload.startswith(magic)), None)
    assert program, f"{kernel}: unknown compression, {payload[:8]}"
    elf = subprocess.run(program, input=payload, stdout=subprocess.PIPE, check=True).stdout
    assert elf.startswith(b"\x7fELF"), f"{kernel} holds no ELF file"
    target.write_bytes(elf)
    return target
