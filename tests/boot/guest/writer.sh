# SPDX-License-Identifier: MIT
#
# Writes blocks of 64 KiB and prints when each is flushed, until the machine is
# killed.

. /test/report.sh

number=0
while :; do
    yes "block $number" | dd of=/dev/vdb bs=64k count=1 seek=$number iflag=fullblock \
        conv=notrunc,fsync 2>/dev/null || break
    echo "guest: flushed $number"
    number=$((number + 1))
done
