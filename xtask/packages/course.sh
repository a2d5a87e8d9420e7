# Sourced by each course: a kernel whose driver comes and goes, and what must be true of the spec.
spec=/var/run/cdi/nvidia.yaml

# kernel VERSION: the kernel's side of a driver; kernel off: none.
kernel() {
    if [ "$1" = off ]; then
        umount /proc/driver && rm -f /dev/nvidia*
        return
    fi
    mountpoint -q /proc/driver || mount -t tmpfs -o mode=755 tmpfs /proc/driver
    gpu=/proc/driver/nvidia/gpus/0000:00:06.0
    mkdir -p $gpu
    echo "NVRM version: NVIDIA UNIX x86_64 Kernel Module  $1  Release Build" > /proc/driver/nvidia/version
    cp /fx/proc/params /proc/driver/nvidia/params
    sed "s/580.159.04/$1/" /fx/proc/information > $gpu/information
    [ -e /dev/nvidia0 ] || mknod -m 666 /dev/nvidia0 c 195 0
    [ -e /dev/nvidiactl ] || mknod -m 666 /dev/nvidiactl c 195 255
    [ -e /dev/nvidia-uvm ] || mknod -m 666 /dev/nvidia-uvm c 238 0
}

# want CODE STEP: `cdi-gen check` must end so (0 true, 3 no driver, 5 stale, 6 no spec). A true spec has all that a new one
# would have.
want() {
    told=$(cdi-gen check 2>&1) && code=0 || code=$?
    echo "$2: $told"
    [ $code = "$1" ] || { echo "FAILED: check ends with $code, not $1"; exit 1; }
    [ "$1" != 0 ] || cdi-gen diff --quiet || { echo "FAILED: a new spec would be another"; exit 1; }
}

# quietly COMMAND…: what it prints is shown if it fails.
quietly() {
    "$@" > /tmp/log 2>&1 || { cat /tmp/log; echo "FAILED: $*"; exit 1; }
}
