# SPDX-License-Identifier: MIT
#
# Sourced by the other scripts: what a test wants to know goes to the console
# in sections that machine.py reads.

# section NAME COMMAND: COMMAND's output and exit status.
section() {
    echo "@@ $1"
    eval "$2" 2>&1
    echo "@@ end $?"
}

# Shows FILES, each line with the file's name.
show() {
    grep -H '' "$@"
}

# Only what a test asked for, not the kernel's log in between.
dmesg -n 1
