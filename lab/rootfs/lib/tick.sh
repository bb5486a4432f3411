# The pulse: a line "COUNT UPTIME" about every 20 ms. Gaps between the times at which the host receives them are the
# guest's stalls. UPTIME (seconds, two decimals) is the guest's own clock.

tick_start() {
    mkfifo /run/tick.never
    tick_loop "$1" </dev/null 2>/dev/null &
}

tick_loop() {
    stty -F "$1" -opost
    exec 3<>/run/tick.never >"$1"
    count=0
    while :; do
        # Nobody ever writes to that pipe: this waits without starting a process.
        read -r -t 0.02 _ <&3
        read -r uptime _ </proc/uptime
        count=$((count + 1))
        echo "$count $uptime"
    done
}
