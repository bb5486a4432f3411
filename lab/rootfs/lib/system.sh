# What the other parts share, and the power button.

# background NAME COMMAND...: run it apart from the agent's answer; background_stop NAME ends it.
background() {
    name=$1
    shift
    [ ! -e "/run/$name.pid" ] || { echo "$name runs already"; return 1; }
    # exec, because a mere redirection keeps copies of the old ones: the answer would wait for this process.
    (
        exec </dev/null >/dev/null 2>&1
        "$@"
    ) &
    echo $! >"/run/$name.pid"
}

background_stop() {
    [ -e "/run/$1.pid" ] || { echo "$1 does not run"; return 1; }
    read -r pid <"/run/$1.pid"
    rm "/run/$1.pid"
    kill "$pid"
    while [ -e "/proc/$pid/stat" ] && read -r _ _ state _ <"/proc/$pid/stat" && [ "$state" != Z ]; do
        usleep 2000
    done
    :
}

sum_of() {
    sha256sum | { read -r sum _ && echo "$sum"; }
}

# ACPI power button (`virsh shutdown`): the input device speaks when it is pressed; then the guest powers off.
power_button_start() {
    for input in /sys/class/input/event*; do
        read -r name <"$input/device/name" || continue
        if [ "$name" = "Power Button" ]; then
            power_button "/dev/input/${input##*/}" </dev/null >/dev/null 2>&1 &
        fi
    done
}

power_button() {
    dd if="$1" bs=24 count=1 && sync && poweroff -f
}
