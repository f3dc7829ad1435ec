#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Uses disk, network and console while the host pauses the machine all the time: fetches a page three
# times, writes it to the disk and reads it back.

. /test/report.sh

copies() {
    for copy in 1 2 3; do
        wget -q -O "/root/page$copy" "$url" || return 1
    done
    sync
    echo 3 >/proc/sys/vm/drop_caches
    sha256sum /root/page1 /root/page2 /root/page3
}

url=$1
section copies copies
section numbers "seq 5000"
# Drain the terminal: Linux drops its unsent output when the session ends.
stty "$(stty -g)"
