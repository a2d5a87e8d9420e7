#!/bin/sh
# enter.sh ROOT FILES COMMAND…: runs a command in a root of its own: mounts, devices and /proc are gone with it. FILES are
# at /fx in it.
root=$1 files=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do cp -a /dev/$node "$root/dev/$node"; done
mkdir "$root/dev/pts" "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root/run/lock" "$root/fx"
mount --bind "$files" "$root/fx"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cd "$root" && mkdir -p .old && pivot_root . .old && umount -l .old && rmdir .old
exec env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
