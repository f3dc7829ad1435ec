# SPDX-License-Identifier: MIT
#
# Uses ports of the virtio console: see test_streams.py.

. /test/report.sh

# The device of the port with this name.
port() {
    for name in /sys/class/virtio-ports/*/name; do
        [ "$(cat "$name")" = "$1" ] || continue
        name=${name%/name}
        echo "/dev/${name##*/}"
    done
}

host_connected() {
    grep host_connected "/sys/kernel/debug/virtio-ports/${1##*/}"
}

# When the host's reader is gone the port is closed; `yes`, which does not check, blocks.
write_for_nobody() {
    yes >"$1" &
    until host_connected "$1" | grep ': 0'; do
        usleep 20000
    done
    kill $!
}

# With the port open all the time: input for a closed port is dropped.
talk() {
    host_connected "$1"
    {
        echo question >&3
        cat <&3
    } 3<>"$1"
}

mount -t debugfs debugfs /sys/kernel/debug

# The driver adds ports one after the other while this script runs.
for name in in out gone null talk last; do
    until [ "$(port $name)" ]; do
        usleep 20000
    done
done

section ports 'cat /sys/class/virtio-ports/*/name'
section tty 'tty; cat /sys/class/tty/console/active'
section null 'wc -c <$(port null)'
section talk 'talk $(port talk)'
section gone 'write_for_nobody $(port gone)'
section pass 'cat $(port in) >$(port out)'

size=$(stty size 2>&1)
echo "guest: size $size"
while [ "$(stty size 2>&1)" = "$size" ]; do
    usleep 50000
done
echo "guest: size $(stty size)"

cat /bin/busybox >"$(port last)"
poweroff -f
