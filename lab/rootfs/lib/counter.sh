# One counter in a process's memory and on every disk named: proof that memory and disks are of one instant.
#
# counter start DEV... | counter show | counter stop
# show prints: n=STEP bad=COUNT, and a line for each thing that was wrong.
#
# A disk keeps the last eight numbers, number N in slot N modulo 8 (sectors from 1 MiB on). Before a step the loop
# compares all eight with what its own memory says. So a disk of another instant than the memory is noticed even
# when the loop was just about to write: that repairs one slot, and the next step sees the other seven.

COUNTER_SECTOR=2048

counter() {
    case "$1" in
    start)
        shift
        : >/run/counter.bad
        for dev in "$@"; do
            [ -b "/dev/$dev" ] || { echo "no disk $dev"; return 1; }
            for number in -7 -6 -5 -4 -3 -2 -1 0; do
                counter_put "$dev" $number || return
            done
        done
        echo 0 >/run/counter
        background counter counter_loop "$@"
        ;;
    show)
        read -r n </run/counter
        echo "n=$n bad=$(grep -c . /run/counter.bad)"
        cat /run/counter.bad
        ;;
    stop) background_stop counter ;;
    *) echo "usage: counter start DEV... | show | stop"; return 2 ;;
    esac
}

counter_put() { # DEV NUMBER
    printf '%-511s\n' "$2" |
        dd of="/dev/$1" bs=512 seek=$((COUNTER_SECTOR + ($2 + 8) % 8)) count=1 iflag=fullblock oflag=direct conv=notrunc 2>/dev/null
}

counter_slots() { # DEV
    dd if="/dev/$1" bs=4096 skip=$((COUNTER_SECTOR / 8)) count=1 iflag=direct 2>/dev/null
}

counter_loop() {
    n=0
    while :; do
        due=
        for slot in 0 1 2 3 4 5 6 7; do
            due="$due $((n - (n - slot + 8) % 8))"
        done
        for dev in "$@"; do
            found=" $(echo $(counter_slots "$dev"))"
            [ "$found" = "$due" ] || echo "$dev holds$found, memory says$due" >>/run/counter.bad
            counter_put "$dev" $((n + 1))
        done
        n=$((n + 1))
        echo "$n" >/run/counter
    done
}
