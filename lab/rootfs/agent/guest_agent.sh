# QEMU's guest agent, as a real guest has it (only in the variant `build(agent=True)`).
#
# qga start | stop

qga() {
    case "$1" in
    start)
        for port in /sys/class/virtio-ports/*; do
            read -r name <"$port/name" || continue
            if [ "$name" = org.qemu.guest_agent.0 ]; then
                background qga exec qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid \
                    -l /run/qemu-ga.log
                return
            fi
        done
        echo "there is no channel for the agent"
        return 1
        ;;
    stop) background_stop qga ;;
    *) echo "usage: qga start | stop"; return 2 ;;
    esac
}

# journal mount DEV: mount a file system with a journal on /mnt/DEV.
# journal write DEV | journal stop | journal count: write a file over and over, as fast as the disk takes it.
journal() {
    case "$1" in
    mount) mkdir -p "/mnt/$2" && mount -t ext4 "/dev/$2" "/mnt/$2" ;;
    write) echo 0 >/run/journal && background journal journal_loop "/mnt/$2/count" ;;
    stop) background_stop journal ;;
    count)
        # Between the loop's truncating and its writing the file is empty.
        n=
        until [ -n "$n" ]; do read -r n </run/journal; done
        echo "$n"
        ;;
    *) echo "usage: journal mount DEV | write DEV | stop | count"; return 2 ;;
    esac
}

journal_loop() {
    n=0
    while :; do
        n=$((n + 1))
        echo "$n" >"$1.new" && mv "$1.new" "$1" || return
        echo "$n" >/run/journal
    done
}
