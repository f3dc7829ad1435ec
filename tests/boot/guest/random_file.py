# SPDX-License-Identifier: MIT
"""random_file.py FILE SEED COUNT: reads, writes, maps, truncates and reopens FILE at random.

Compares each byte with a model of the file, stops at the first difference, and prints the SHA-256
of the contents at the end. The same SEED gives the same operations.
"""

import ctypes
import hashlib
import mmap
import os
import random
import sys

LARGEST = 1 << 18
PUNCH_HOLE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE

libc = ctypes.CDLL(None, use_errno=True)
path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
model = bytearray()
fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)


def span(limit):
    """An offset below the limit, and a length that ends there at most: whole pages at times."""
    start = rng.randrange(limit)
    length = rng.randrange(1, min(limit - start, 40000) + 1)
    if rng.random() < 0.3:
        start &= ~4095
        length = min((length + 4095) & ~4095, limit - start)
    return start, length


def put(start, data):
    if len(model) < start + len(data):
        model.extend(bytes(start + len(data) - len(model)))
    model[start : start + len(data)] = data


def write():
    start, length = span(LARGEST)
    data = rng.randbytes(length)
    check(os.pwrite(fd, data, start) == length)
    put(start, data)


def append():
    data = rng.randbytes(rng.randrange(1, 5000))
    if len(model) + len(data) > LARGEST:
        return
    end = os.open(path, os.O_WRONLY | os.O_APPEND)
    check(os.write(end, data) == len(data))
    os.close(end)
    put(len(model), data)


def read():
    start, length = span(LARGEST)
    check(os.pread(fd, length, start) == bytes(model[start : start + length]))


def truncate():
    size = rng.randrange(LARGEST)
    os.ftruncate(fd, size)
    del model[size:]
    model.extend(bytes(size - len(model)))


def punch():
    if not model:
        return
    start, length = span(len(model))
    result = libc.fallocate(fd, PUNCH_HOLE, ctypes.c_long(start), ctypes.c_long(length))
    if result == 0:
        put(start, bytes(length))


def map_write():
    if not model:
        return
    start, length = span(len(model))
    data = rng.randbytes(length)
    with mmap.mmap(fd, len(model)) as memory:
        memory[start : start + length] = data
        if rng.random() < 0.3:
            memory.flush()
    put(start, data)


def map_read():
    if not model:
        return
    start, length = span(len(model))
    with mmap.mmap(fd, len(model), prot=mmap.PROT_READ) as memory:
        check(memory[start : start + length] == bytes(model[start : start + length]))


def reopen():
    global fd
    if rng.random() < 0.5:
        os.fsync(fd)
    os.close(fd)
    if rng.random() < 0.3:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("1")
    fd = os.open(path, os.O_RDWR)


def check(holds):
    if not holds:
        sys.exit(f"operation {number} of seed {seed}: {operation.__name__}: not what was written")


for number in range(count):
    operation = rng.choice((write, write, append, read, read, truncate, punch, map_write, map_read,
                            reopen))
    operation()
    check(os.fstat(fd).st_size == len(model))
with open(path, "rb") as file:
    check(file.read() == bytes(model))
print("the same", hashlib.sha256(model).hexdigest())
