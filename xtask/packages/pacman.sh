#!/bin/bash
# Arch: a real pacman, our hook and install script, and a driver of two versions.
set -e
. /fx/course.sh
old=550.163.01 new=580.159.04 work=/tmp/packages
# pack NAME VERSION: what lies in $work/NAME-VERSION
pack() {
    cd "$work/$1-$2"
    printf 'pkgname = %s\npkgbase = %s\npkgver = %s-1\npkgdesc = x\nbuilddate = 1\npackager = x\nsize = 1\narch = x86_64\n' "$1" "$1" "$2" > .PKGINFO
    bsdtar --uid 0 --gid 0 -cf - $(ls -A) | zstd -q > "$work/$1-$2.pkg.tar.zst"
    cd /
}
library() { install -D "/fx/libraries/$2.$3" "$1/usr/lib/$2.$3"; ln -s "$2.$3" "$1/usr/lib/$2.1"; }
pacman() { quietly /usr/bin/pacman --config /tmp/pacman.conf --noconfirm --noprogressbar "$@"; }
mkdir -p $work/cdi-tools-1 /var/lib/pacman
printf '[options]\nArchitecture = x86_64\nSigLevel = Never\nLocalFileSigLevel = Never\nHookDir = /usr/share/libalpm/hooks\n' > /tmp/pacman.conf
install -D /fx/cdi-gen $work/cdi-tools-1/usr/bin/cdi-gen
install -D -m644 /fx/cdi-gen.hook $work/cdi-tools-1/usr/share/libalpm/hooks/cdi-gen.hook
cp /fx/cdi-gen.install $work/cdi-tools-1/.INSTALL
pack cdi-tools 1
for version in $old $new; do
    utils=$work/nvidia-utils-$version
    library $utils libcuda.so $version
    library $utils libnvidia-ml.so $version
    install -D /bin/true $utils/usr/bin/nvidia-smi
    pack nvidia-utils $version
done
pacman -U $work/cdi-tools-1.pkg.tar.zst
want 3 "our package, no driver"
kernel $old
pacman -U $work/nvidia-utils-$old.pkg.tar.zst
want 0 "driver $old"
kernel $new
pacman -U $work/nvidia-utils-$new.pkg.tar.zst
want 0 "driver $new"
pacman -R cdi-tools
[ ! -e $spec ] || { echo "FAILED: the spec outlives us"; exit 1; }
pacman -U $work/cdi-tools-1.pkg.tar.zst
want 0 "our package after the driver"
kernel off
pacman -R nvidia-utils
want 3 "no driver"
