#!/bin/bash
# In a booted systemd: our package's units, and a driver that comes, changes and goes.
set -e
. /fx/course.sh
. /fx/systemd.sh
old=550.163.01 new=580.159.04
quietly dpkg -i /fx/cdi-tools.deb
systemd-analyze verify /usr/lib/systemd/system/cdi-gen-* 2>&1 || fail "the units"
for unit in cdi-gen-refresh.path cdi-gen-homes.path; do systemctl is-active --quiet $unit || fail "$unit is not active"; done
for unit in refresh changed; do
    systemd-analyze security --no-pager --threshold=15 cdi-gen-$unit.service > /tmp/log || fail "$(tail -1 /tmp/log)"
    tail -1 /tmp/log
done
systemctl start cdi-gen-refresh.service || fail "no driver is a failure"
echo "no driver: $(systemctl show -P Result cdi-gen-refresh.service)"
sleep 1
mkdir -m 755 /tmp/nvidia-mps
kernel $old; touch /run/beside; libraries $old; within 2 $old "a driver"
grep -q /tmp/nvidia-mps $spec || fail "the service does not see the directory of MPS"
modes="$(stat -c %a:%u:%g /run/cdi $spec | tr '\n' ' ')"
[ "$modes" = "755:0:0 644:0:0 " ] || fail "modes: $modes"
kernel $new; libraries $new; within 2 $new "another version"
sleep 2; before=$(refreshes)
for i in $(seq 100); do
    cp /etc/ld.so.cache /etc/ld.so.cache~; mv /etc/ld.so.cache~ /etc/ld.so.cache
    systemctl --no-block start cdi-gen-changed.service
done
sleep 3; runs=$(($(refreshes) - before))
echo "200 events: $runs refreshes"
[ $runs -ge 1 ] && [ $runs -le 2 ] || fail "$runs refreshes"
healthy "after 200 events"
slow 2
ldconfig; sleep 1.6; kernel $old; libraries $old; within 6 $old "a change during a refresh"
slow 0
kernel $new; systemctl start cdi-gen-refresh.service; sleep 1
healthy "with a module that the libraries are not of"
echo "an update without a boot: $(systemctl show -P Result cdi-gen-refresh.service)"
libraries $new; within 2 $new "after the boot"
useradd -m -u 1000 user && loginctl enable-linger user && sleep 1
user() { setpriv --reuid=1000 --regid=1000 --init-groups env XDG_RUNTIME_DIR=/run/user/1000 "$@"; }
user systemctl --user enable --now cdi-gen-refresh.service 2>&1 || fail "the user's unit"
[ -s /run/user/1000/cdi/nvidia.yaml ] || fail "the user has no spec"
echo "a user without root: a spec in /run/user/1000/cdi"
kernel off; systemctl start cdi-gen-refresh.service || fail "a driver that went is a failure"
[ ! -e $spec ] || fail "the spec outlives the driver"
healthy "in the end"
echo "the driver is gone: $(systemctl show -P Result cdi-gen-refresh.service), and no spec"
