# SPDX-License-Identifier: MIT
#
# Writes a block of 64 KiB after the other and says when it is on the disk,
# until somebody kills the machine.

. /test/report.sh

number=0
while :; do
    yes "block $number" | dd of=/dev/vdb bs=64k count=1 seek=$number iflag=fullblock \
        conv=notrunc,fsync 2>/dev/null || break
    echo "guest: flushed $number"
    number=$((number + 1))
done
