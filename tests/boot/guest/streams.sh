# SPDX-License-Identifier: MIT
#
# What a guest does with ports of the console: see test_streams.py.

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

# A writer whose reader is gone: the port is closed, and the writer, who does not look, waits.
write_for_nobody() {
    yes >"$1" &
    until host_connected "$1" | grep ': 0'; do
        usleep 20000
    done
    kill $!
}

# In one go: what arrives at a port that nobody has open is dropped.
talk() {
    host_connected "$1"
    {
        echo question >&3
        cat <&3
    } 3<>"$1"
}

mount -t debugfs debugfs /sys/kernel/debug

# The driver adds ports one after the other, while we run.
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
