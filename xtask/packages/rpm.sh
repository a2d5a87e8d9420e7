#!/bin/bash
# RPM: our package with file triggers, and drivers of two versions in three packages each, come and go.
set -e
. /fx/course.sh
old=550.163.01 new=580.159.04
rpm() { quietly /usr/bin/rpm --define "_dbpath /var/lib/rpm" "$@"; }
packages() { for part in libs cuda firmware; do echo /fx/rpms/driver-$part-$1-1.x86_64.rpm; done; }
mkdir -p /var/lib/rpm
rpm --initdb
rpm --nodeps -i /fx/cdi-tools.rpm
want 3 "our package, no driver"
kernel $old
rpm --nodeps -i $(packages $old)
want 0 "driver $old"
kernel $new
want 5 "the module of $new is loaded"
rpm --nodeps -U $(packages $new)
want 0 "driver $new"
rpm -e driver-cuda
want 0 "without nvidia-smi"
rpm -e driver-firmware
want 0 "without firmware"
rpm --nodeps -i $(packages $new | grep -v libs)
want 0 "with both again"
kernel off
rpm -e driver-libs driver-cuda driver-firmware
want 3 "no driver"
kernel $new
rpm --nodeps -i $(packages $new)
want 0 "driver $new again"
rpm -e cdi-tools
[ ! -e $spec ] || { echo "FAILED: the spec outlives us"; exit 1; }
rpm --nodeps -i /fx/cdi-tools.rpm
want 0 "our package after the driver"
