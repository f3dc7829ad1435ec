#!/bin/sh
# SPDX-License-Identifier: MIT
#
# call_names.sh COMPILER...: prints the names of this architecture's system calls, as the initializer of an
# array that their numbers index.
"$@" -E -dM -include sys/syscall.h -x c /dev/null |
    sed -n '/__NR_\(syscalls\|arch_specific_syscall\)/d; s/^#define __NR_\([a-z0-9_]*\) .*/[__NR_\1] = "\1",/p'
