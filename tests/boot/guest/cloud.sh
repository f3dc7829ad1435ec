# SPDX-License-Identifier: MIT
#
# cloud.sh URL: reports on a small machine with three disks and a user-mode
# network, reboots, and checks the files on its disk.

. /test/report.sh

virtio_feature_bits() {
    for device in /sys/bus/virtio/devices/*; do
        echo "$(cat "$device/device") $(cat "$device/features")"
    done
}

entropy() {
    cat /sys/class/misc/hw_random/rng_current
    for _ in 1 2; do
        dd if=/dev/hwrng bs=64 count=1 2>/dev/null | sha256sum
    done
}

# Writes 1 MiB of ones to the data disk and discards 512 KiB in the middle.
discard() {
    tr '\0' '\377' </dev/zero | dd of=/dev/vdc bs=64k count=16 iflag=fullblock conv=fsync &&
        blkdiscard -o 262144 -l 524288 /dev/vdc &&
        echo 3 >/proc/sys/vm/drop_caches &&
        dd if=/dev/vdc bs=64k count=16 | sha256sum
}

write_files() {
    mkdir -p /kept &&
        dd if=/dev/urandom of=/kept/random bs=64k count=64 iflag=fullblock 2>/dev/null &&
        (cd /kept && sha256sum random >sums) &&
        sync &&
        echo 3 >/proc/sys/vm/drop_caches
}

tables() {
    for table in FACP APIC DSDT; do
        echo "$table $(base64 "/sys/firmware/acpi/tables/$table" | tr -d '\n')"
    done
}

if [ -e /kept/sums ]; then
    section again.cmdline 'cat /proc/cmdline'
    section again.files 'cd /kept && cat sums && sha256sum -c sums'
    section again.net 'ip -4 -o address show eth0'
    section again.warnings 'dmesg -r | grep "^<[0-4]>"'
    exit
fi

section cmdline 'cat /proc/cmdline'
section warnings 'dmesg -r | grep "^<[0-4]>"'
section log 'dmesg'
section memory 'grep MemTotal /proc/meminfo; cat /proc/iomem'
section cpu 'cat /proc/cpuinfo'
section clock 'show /sys/devices/system/clocksource/clocksource0/*_clocksource'
section rtc 'cat /sys/class/rtc/rtc0/since_epoch; date +%s'
section interrupts 'cat /proc/interrupts'
section modules 'ls /sys/bus/acpi/devices'
section tables tables
section features virtio_feature_bits
section mounts 'cat /proc/mounts'
section disks 'cd /sys/block; show vd*/size vd*/ro vd*/serial vd*/cache_type'
section limits 'cd /sys/block; show vd*/queue/*max_bytes vd*/queue/*_block_size'
section read-only 'sha256sum /dev/vdb; dd if=/dev/zero of=/dev/vdb bs=512 count=1'
section discard discard
section write write_files
section read 'cd /kept && cat sums && sha256sum -c sums'
section entropy entropy
section net 'ip -4 -o address show eth0; ip route; cat /etc/resolv.conf'
section fetch "wget -q -O - $1 | sha256sum"
section mac 'cat /sys/class/net/eth0/address'

mkdir -p /www
cp /kept/random /www
httpd -h /www
echo "guest: serving"
read -r answer
section answer 'echo "$answer"'
reboot
sleep 100
