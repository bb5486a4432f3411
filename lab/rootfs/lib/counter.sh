# One counter in a process's memory and on every disk named: proof that memory and disks are of one instant.
#
# counter start DEV... | counter show | counter stop
# Before each write the loop reads what the disk holds and compares it with what its own memory says it wrote there.
# A disk that is older or newer than the memory is counted in `bad` at its very next step.
# show prints: n=STEP bad=COUNT, and a line for each thing that was wrong.

COUNTER_BLOCK=256

counter() {
    case "$1" in
    start)
        shift
        : >/run/counter.bad
        for dev in "$@"; do
            block_put "$dev" $COUNTER_BLOCK 0 || return
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

counter_loop() {
    n=0
    while :; do
        for dev in "$@"; do
            found=$(block_get "$dev" $COUNTER_BLOCK)
            [ "$found" = "$n" ] || echo "$dev holds '$found', memory says '$n'" >>/run/counter.bad
            block_put "$dev" $COUNTER_BLOCK $((n + 1))
        done
        n=$((n + 1))
        echo "$n" >/run/counter
    done
}
