#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints a C source with a file's bytes as an array."""

import sys
from pathlib import Path

data = Path(sys.argv[1]).read_bytes()
print('#include "firmware/init/embedded.h"')
print("const unsigned char init_program[] = {")
for start in range(0, len(data), 16):
    print("".join(f"{byte}," for byte in data[start:start + 16]))
print("};")
print("const size_t init_program_size = sizeof(init_program);")
