#!/bin/sh
# boot_phone.sh ROOT WORK: process 1 of a phone, in namespaces of its own (see machine.py).
#
# ROOT is shared by all phones and only read; what a phone writes lies in WORK or in memory.
set -eu
root=$1
work=$2
read -r pid rest </proc/self/stat
echo "$pid"
exec >>"$work/state/boot.log" 2>&1

mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --bind "$work/cpuinfo" "$root/proc/cpuinfo"
cat /proc/sys/kernel/random/uuid >"$work/state/boot_id"
mount --bind "$work/state/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount --bind "$work/sys" "$root/sys"
mount --bind "$work/bin" "$root/system/bin"
mount --bind "$work/state" "$root/phone"
mount -t tmpfs -o size=16m,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o size=16m tmpfs "$root/data"
mkdir -p "$root/data/local/tmp"
mount --bind "$work/storage" "$root/data/local/tmp"

mount -t tmpfs -o size=1m tmpfs "$root/dev"
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done

# adbd listens on every interface, runs as root and asks for no key: only ever in here.
exec env -i PATH=/system/bin:/usr/sbin:/usr/bin HOME=/data TMPDIR=/data/local/tmp \
    ANDROID_ROOT=/system ANDROID_DATA=/data ADBD_PORT=5555 QEMU_CPU=cortex-a76 \
    chroot "$root" /bin/sh /phone/init
