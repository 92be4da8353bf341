#!/bin/sh
# boot_board.sh ROOT WORK: process 1 of a board, in namespaces of its own (see machine.py).
#
# ROOT is / (the host's own system) or a root file system that is only read. WORK, with sshd's
# configuration and all that the board writes, has the same path inside as outside.
set -eu
root=$1
work=$2
read -r pid rest </proc/self/stat
echo "$pid"
exec >>"$work/boot.log" 2>&1
cat /proc/sys/kernel/random/uuid >"$work/boot_id"

if [ "$root" = / ]; then
    mount -t proc proc /proc
    mount --bind "$work/boot_id" /proc/sys/kernel/random/boot_id
    mount --bind "$work/passwd" /etc/passwd
    mount --bind "$work/shadow" /etc/shadow
    mount -t tmpfs -o size=16m,mode=755 tmpfs /run
    mkdir /run/sshd
    # shellcheck disable=SC2093
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -D -f "$work/sshd_config" -E "$work/sshd.log"
fi

mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --bind "$work/cpuinfo" "$root/proc/cpuinfo"
mount --bind "$work/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount --bind "$work/sys" "$root/sys"
mount --bind "$work/passwd" "$root/etc/passwd"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
mkdir -p "$root$work"
mount --bind "$work" "$root$work"
mount -t tmpfs -o size=16m,mode=755 tmpfs "$root/run"
mkdir "$root/run/sshd"
mount -t tmpfs -o size=1m,mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
exec env -i PATH=/usr/sbin:/usr/bin QEMU_CPU=cortex-a72 \
    chroot "$root" /usr/sbin/sshd -D -f "$work/sshd_config" -E "$work/sshd.log"
