# SPDX-License-Identifier: MIT
#
# share.sh: uses a read-only and a writable directory of the host, and an overlay
# in memory above one of them.

. /test/report.sh

list_files() {
    ls -l /ro/many | wc -l
    find /ro/many -type f -size +0 | wc -l
    (cd /ro/many && cat $(ls) | sha256sum)
}

read_all() {
    (cd /ro && sha256sum big && stat -c '%n %s %a %u %F' big empty folder link pipe)
    readlink /ro/link
    cat /ro/link
    cat "/ro/a name with spaces"
}

refused() {
    for command in 'echo >/ro/new' 'echo >>/ro/empty' 'rm /ro/empty' 'mkdir /ro/d' 'chmod 7 /ro/big' \
        'mv /ro/empty /ro/folder' 'ln /ro/big /ro/l' 'ln -s x /ro/l' 'touch /ro/empty' 'rmdir /ro/folder' \
        'truncate -s 1 /ro/big' 'mknod /ro/p p'; do
        sh -c "$command" 2>&1 | grep -q 'Read-only file system' || echo "not refused: $command"
    done
}

write_files() {
    cd /rw &&
        dd if=/dev/urandom of=random bs=1M count=2 2>/dev/null && sha256sum random &&
        mkdir -p a/b && echo text >a/b/file && mv a/b/file a/moved && rmdir a/b &&
        ln a/moved a/second && ln -s moved a/link && cat a/link && rm a/moved && cat a/second &&
        chmod 640 a/second && TZ=UTC touch -d '2001-02-03 04:05:06' a/second &&
        echo first >log && echo second >>log && cat log &&
        truncate -s 3 log && cat log && echo &&
        cp random copy && cmp random copy && rm copy &&
        mkfifo pipe && { echo through >pipe & cat pipe; } && rm pipe
    ls -l /rw
}

# A file that is open but deleted, like many temporary files.
nameless() {
    exec 5>/rw/temporary 6</rw/temporary
    rm /rw/temporary
    echo still here >&5
    cat <&6
    stat -L -c '%s %h' /proc/self/fd/6
    exec 5>&- 6<&-
    ls /rw/temporary
}

run_on_overlay() {
    mkdir -p /tmp/over && mount -t tmpfs none /tmp/over && mkdir /tmp/over/up /tmp/over/work /tmp/over/all &&
        mount -t overlay -o lowerdir=/ro,upperdir=/tmp/over/up,workdir=/tmp/over/work none /tmp/over/all &&
        cd /tmp/over/all && echo changed >empty && cat empty && rm -r many && ls -1 && cat /ro/empty
    ls /ro/many | wc -l
}

mkdir -p /ro /rw
section mount 'mount -t virtiofs ro-share /ro && mount -t virtiofs rw-share /rw; grep virtiofs /proc/mounts'
section missing 'mount -t virtiofs no-share /mnt'
section list list_files
section read read_all
section refused refused
section write write_files
section nameless nameless
section overlay run_on_overlay
section program '/ro/busybox echo it runs'
section space 'df /rw | tail -n 1 | wc -w'
section host-sees 'sync; cat /rw/random | sha256sum'
echo "guest: the host may change things"
read -r answer
usleep 1100000
section changed 'cat /ro/changing; ls /ro/folder; cat /ro/folder/new'
section again 'umount /ro && mount -t virtiofs ro-share /ro && cat /ro/changing'
section warnings 'dmesg -r | grep "^<[0-4]>"'
