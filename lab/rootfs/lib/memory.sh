# Markers and load in the guest's memory.

# A process that keeps a value in one of its variables: proof that a process's memory came back, not a file.
keeper_start() {
    mkfifo /run/keeper.ask /run/keeper.say
    keeper </dev/null >/dev/null 2>&1 &
}

keeper() {
    kept=
    while :; do
        read -r verb rest </run/keeper.ask
        case "$verb" in
        put) kept=$rest ;;
        esac
        echo "$kept" >/run/keeper.say
    done
}

# mem put TEXT | mem get | mem fill MIB | mem sum
# put keeps TEXT in a process's variable and in a file in memory; get fails when the two differ.
# fill makes MIB MiB of random content in memory, sum prints its SHA-256.
mem() {
    case "$1" in
    put)
        shift
        echo "$*" >/run/marker
        echo "put $*" >/run/keeper.ask
        read -r said </run/keeper.say
        [ "$said" = "$*" ]
        ;;
    get)
        echo get >/run/keeper.ask
        read -r said </run/keeper.say
        read -r filed </run/marker
        echo "$said"
        [ "$said" = "$filed" ] || { echo "the file says: $filed"; return 1; }
        ;;
    fill) dd if=/dev/urandom of=/run/fill bs=1M count="$2" iflag=fullblock 2>/dev/null ;;
    sum) sum_of </run/fill ;;
    *) echo "usage: mem put TEXT | get | fill MIB | sum"; return 2 ;;
    esac
}

# dirty start MIB | dirty stop: rewrite MIB MiB of memory over and over, as fast as the guest can.
dirty() {
    case "$1" in
    start)
        dd if=/dev/urandom of=/run/dirty.0 bs=1M count="$2" iflag=fullblock 2>/dev/null || return
        tr '\000-\377' '\200-\377\000-\177' </run/dirty.0 >/run/dirty.1 || return
        cp /run/dirty.0 /run/dirty
        background dirty dirty_loop
        ;;
    stop)
        background_stop dirty || return
        rm -f /run/dirty /run/dirty.0 /run/dirty.1
        ;;
    *) echo "usage: dirty start MIB | stop"; return 2 ;;
    esac
}

# rewrite start MIB | rewrite stop: write MIB MiB of memory over and over; takes 40 MiB more, not thrice as much.
rewrite() {
    case "$1" in
    start)
        dd if=/dev/urandom of=/run/rewrite.from bs=1M count=20 iflag=fullblock 2>/dev/null || return
        rewrite_once "$2" || return
        background rewrite rewrite_loop "$2"
        ;;
    stop)
        background_stop rewrite || return
        rm -f /run/rewrite /run/rewrite.from
        ;;
    *) echo "usage: rewrite start MIB | stop"; return 2 ;;
    esac
}

rewrite_once() { # MIB [FIRST]
    at=${2:-0}
    while [ $at -lt "$1" ]; do
        dd if=/run/rewrite.from of=/run/rewrite bs=1M seek=$at conv=notrunc 2>/dev/null || return
        at=$((at + 20))
    done
}

rewrite_loop() {
    # Each time from another MiB on: what is written differs from what is there, as QEMU's samples need it.
    first=1
    while rewrite_once "$1" $first; do first=$(((first + 1) % 20)); done
}

dirty_loop() {
    while :; do
        dd if=/run/dirty.0 of=/run/dirty bs=1M conv=notrunc || return
        dd if=/run/dirty.1 of=/run/dirty bs=1M conv=notrunc || return
    done
}
