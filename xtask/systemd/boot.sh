#!/bin/bash
# boot.sh ROOT FILES COMMAND…: boots systemd in a root, runs a command in it, shuts it down. FILES are at /fx in it.
# Nothing is left: the root is an overlay on a tmpfs; mounts, processes, network and cgroup are private.
set -eu
root=$1 files=$2
shift 2
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/box-$$ work=$(mktemp -d)
mkdir "$group"
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/up" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$root,upperdir=$work/up,workdir=$work/work" overlay "$work/root"
enter() {
    echo $BASHPID > "$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --kill-child --mount --pid --fork --cgroup --uts --ipc --net \
        bash "$(dirname "$0")/init.sh" "$work/root" "$files"
}
enter < /dev/null &
unshared=$!
init=
leave() {
    kill -KILL "${init:-$unshared}" 2> /dev/null || :
    wait
    umount -R "$work" && rmdir "$work"
    find "$group" -depth -type d -exec rmdir {} +
}
trap leave EXIT
until init=$(cat /proc/$unshared/task/$unshared/children 2> /dev/null) && init=${init// } && [ "$init" ] &&
    grep -q systemd "/proc/$init/comm"; do
    kill -0 $unshared || exit 1
    sleep 0.05
done
in_box() { nsenter -t "$init" -a env -i container=box HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin "$@"; }
until in_box systemctl is-system-running --wait 2> /dev/null | grep -qE 'running|degraded'; do
    kill -0 "$init" || exit 1
    sleep 0.1
done
code=0
in_box "$@" || code=$?
kill -s RTMIN+4 "$init"
timeout 20 tail --pid=$unshared -f /dev/null || echo "killed" >&2
exit $code
