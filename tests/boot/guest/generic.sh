# SPDX-License-Identifier: MIT
#
# generic.sh URL URL2 ADDRESS2: reports on a large machine with two taps and its
# console on hvc0, then waits for the power button.

. /test/report.sh

topology() {
    cd /sys/devices/system/cpu || exit
    show cpu[0-9]*/topology/physical_package_id cpu[0-9]*/topology/core_id \
        cpu[0-9]*/topology/thread_siblings_list
}

# The same checksum on each CPU.
work_everywhere() {
    for cpu in 0 1 2 3; do
        taskset $((1 << cpu)) sha256sum /bin/busybox &
    done
    wait
}

big_file() {
    mount -t tmpfs -o size=3g none /mnt &&
        dd if=/dev/urandom of=/mnt/random bs=1M count=8 2>/dev/null &&
        for _ in 1 2 3 4; do cat /mnt/random; done >/mnt/all &&
        tail -c 8388608 /mnt/all | cmp - /mnt/random &&
        grep -A 1000 'zone *Normal' /proc/zoneinfo | grep -m 1 'nr_zone_active_anon\|nr_free_pages'
}

section warnings 'dmesg -r | grep "^<[0-4]>"'
section log 'dmesg'
section online 'nproc; cat /sys/devices/system/cpu/online'
section topology topology
section work work_everywhere
section memory 'grep MemTotal /proc/meminfo; cat /proc/iomem'
section high-memory big_file
section tty 'tty; cat /sys/class/tty/console/active'
section disk 'show /sys/block/vda/size; cat /proc/mounts'
section write 'dd if=/dev/urandom of=/random bs=64k count=64 conv=fsync 2>/dev/null; sha256sum /random'
section net 'ip -4 -o address show eth0; cat /sys/class/net/eth0/address'
section features 'cat /sys/class/net/eth0/device/features'
section ping 'ping -c 3 -i 0.2 -W 60 10.77.0.1'
section fetch "wget -q -O - $1 | sha256sum"
section net-vhost "ip address add $3/24 dev eth1 && ip link set eth1 up"
section fetch-vhost "wget -q -O - $2 | sha256sum"
section interrupts 'cat /proc/interrupts'

mkdir -p /www
cp /random /www
httpd -h /www
echo "guest: serving"

size=$(stty size 2>&1)
echo "guest: size $size"
while [ "$(stty size 2>&1)" = "$size" ]; do
    usleep 50000
done
echo "guest: size $(stty size)"
echo "guest: waiting for the power button"
sleep 1000
