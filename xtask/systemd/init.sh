#!/bin/bash
# init.sh ROOT FILES: becomes systemd in a root; in namespaces of its own, which boot.sh made.
set -eu
cd "$1"
[ $$ = 1 ] # never a second init of this machine
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs tmp
# systemd raises limits of the whole machine there.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
for unit in console-getty.service systemd-sysctl.service sys-kernel-{debug,tracing}.mount dev-{hugepages,mqueue}.mount \
    sys-fs-fuse-connections.mount systemd-udev-trigger.service {apt-daily,apt-daily-upgrade}.timer; do
    ln -sf /dev/null etc/systemd/system/$unit
done
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > etc/machine-id
touch dev/console
mkdir -p fx .old
mount --rbind "$2" fx
mount -o remount,bind,ro fx
pivot_root . .old
umount -l .old
rmdir .old
mount --make-rshared /
exec setpriv --bounding-set -sys_boot,-sys_module,-sys_time,-syslog env -i container=box PATH=/usr/sbin:/usr/bin \
    /usr/lib/systemd/systemd --show-status=false --log-target=journal --default-standard-output=journal
