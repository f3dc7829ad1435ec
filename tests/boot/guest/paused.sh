#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Works disk, network and console while the host pauses the machine all the time: three times a page
# is fetched, written to the disk and read back from there.

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
# Linux hangs up the terminal of a session that ends, with what it has not yet sent: wait for that.
stty "$(stty -g)"
