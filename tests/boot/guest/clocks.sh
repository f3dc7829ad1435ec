# SPDX-License-Identifier: MIT
#
# clocks.sh: reports on the clocks, sets the real-time clock and reads it.

. /test/report.sh

section source 'show /sys/devices/system/clocksource/clocksource0/*_clocksource'
section log 'dmesg'
section epoch 'date +%s; cat /sys/class/rtc/rtc0/since_epoch'
section read 'date -u "+%Y-%m-%d"; hwclock -u -r'
section set 'date -u -s "2031-02-03 04:05:06" && hwclock -u -w && date -u -s "2020-01-01" && hwclock -u -r'
