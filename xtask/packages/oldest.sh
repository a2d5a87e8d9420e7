#!/bin/bash
# The oldest Debian that the mirror has: the package is installed, and each program starts.
set -e
. /fx/course.sh
quietly dpkg -i /fx/cdi-tools.deb
for program in cdi-gen cdi-apply; do quietly $program --help; done
quietly cdi-hook --version
kernel 580.159.04
install -D /fx/libraries/libcuda.so.580.159.04 /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04
install -D /fx/libraries/libnvidia-ml.so.580.159.04 /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04
quietly ldconfig
quietly cdi-gen refresh
want 0 "$(ldd --version | head -1)"
