#!/bin/bash
# Debian: our package, and NVIDIA's own of two releases, come and go. dpkg's triggers alone keep the spec true.
# dpkg.sh before|after: whether the kernel runs the new driver before its packages come, or from the next boot on.
set -e
. /fx/course.sh
apt() { quietly apt-get -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@"; }
release() { apt-cache madison libcuda1 | grep " $1/non-free " | head -1 | sed 's/[^|]*| *\([0-9.]*\)-.*/\1/'; }
driver="libcuda1 libnvidia-ml1 nvidia-smi firmware-nvidia-gsp"
old=$(release bookworm) new=$(release trixie)

apt install /fx/cdi-tools.deb
want 3 "our package, no driver"
for program in cdi-gen cdi-apply; do quietly $program --help; done
quietly cdi-hook --version
[ -z "$(ldd /usr/bin/cdi-gen | grep -v -e linux-vdso -e ld-linux -e 'lib\(c\|m\|dl\|rt\|pthread\)\.so')" ]
kernel "$old"
want 6 "the module of $old is loaded"
apt install $driver
want 0 "driver $old"
apt purge nvidia-smi
want 0 "without nvidia-smi"
apt install nvidia-smi
want 0 "with it again"
if [ "$1" = before ]; then kernel "$new"; want 5 "the module of $new is loaded"; fi
apt install -t trixie $driver
if [ "$1" = after ]; then
    want 6 "driver $new, and the module of $old until the next boot"
    kernel "$new"
    quietly cdi-gen refresh
fi
want 0 "driver $new"
if [ "$1" = after ]; then kernel off; fi
apt purge $driver nvidia-alternative libnvidia-ptxjitcompiler1 libnvidia-pkcs11-openssl3
if [ "$1" = after ]; then want 3 "no driver"; else want 6 "no driver, and its module until the next boot"; fi
[ "$1" = before ] || kernel "$new"
apt install -t trixie $driver
want 0 "driver $new again"
echo 'NVIDIA_CTK_CDI_OUTPUT_FILE_PATH=/etc/cdi/nvidia.yaml' > /etc/cdi-gen.env
apt install --reinstall -t trixie nvidia-smi
[ -e /etc/cdi/nvidia.yaml ] || { echo "FAILED: the trigger heeds no settings"; exit 1; }
apt purge cdi-tools
[ ! -e /etc/cdi/nvidia.yaml ] || { echo "FAILED: the spec outlives us"; exit 1; }
echo "our package is gone, and the spec with it"
