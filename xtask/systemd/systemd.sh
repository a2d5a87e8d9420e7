# Sourced by units.sh: what is done to a booted systemd, and what is asked of it.

fail() {
    echo "FAILED: $*"
    journalctl -b --no-pager -o cat -u 'cdi-gen-*' | tail -20
    exit 1
}

# libraries VERSION: the user's side of a driver.
libraries() {
    rm -f /usr/lib/x86_64-linux-gnu/libcuda.so* /usr/lib/x86_64-linux-gnu/libnvidia-ml.so*
    cp /fx/libraries/*."$1" /usr/lib/x86_64-linux-gnu
    ldconfig
}

refreshes() { journalctl -b -u cdi-gen-refresh.service -o cat --no-pager | grep -c ^Starting || :; }

healthy() { [ -z "$(systemctl --failed --no-legend)" ] || fail "$1: $(systemctl --failed --no-legend)"; }

# within SECONDS VERSION STEP: the spec is of that version by then.
within() {
    start=$(date +%s%N)
    until grep -qs "libcuda.so.$2" "$spec"; do
        [ $(($(date +%s%N) - start)) -lt "${1}000000000" ] || fail "$3: no spec of $2 after $1 s"
        sleep 0.02
    done
    echo "$3: a spec of $2 after $((($(date +%s%N) - start) / 1000000)) ms"
}

# slow SECONDS: each refresh takes so much longer.
slow() {
    mkdir -p /run/systemd/system/cdi-gen-refresh.service.d
    printf '[Service]\nExecStartPost=/bin/sleep %s\n' "$1" > /run/systemd/system/cdi-gen-refresh.service.d/slow.conf
    systemctl daemon-reload
    sleep 3
}
