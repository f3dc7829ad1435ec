# SPDX-License-Identifier: MIT
#
# Sourced by the other scripts: prints results to the console in sections, which
# machine.py parses.

# section NAME COMMAND: prints COMMAND's output and exit status.
section() {
    echo "@@ $1"
    eval "$2" 2>&1
    echo "@@ end $?"
}

# Prints FILES, each line with the file's name.
show() {
    grep -H '' "$@"
}

# Keeps the kernel's log off the console.
dmesg -n 1
