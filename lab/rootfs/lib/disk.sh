# Markers and load on disks. DEV is a name in /dev: vda, sda. Raw access goes past the page cache, so what was
# put is in the disk image, and what is got comes from it.

disk_usage() {
    echo "usage: disk put DEV TEXT | get DEV | fill DEV AT_MIB MIB | sum DEV AT_MIB MIB | list"
    return 2
}

# put keeps TEXT (one line, below 4 KiB) in the first block; fill writes random content; sum is a SHA-256.
disk() {
    case "$1" in
    put)
        dev=$2
        shift 2
        block_put "$dev" 0 "$*"
        ;;
    get) block_get "$2" 0 ;;
    fill) dd if=/dev/urandom of="/dev/$2" bs=1M seek="$3" count="$4" iflag=fullblock oflag=direct conv=fsync,notrunc 2>/dev/null ;;
    sum) dd if="/dev/$2" bs=1M skip="$3" count="$4" iflag=direct 2>/dev/null | sum_of ;;
    list) for dev in /sys/block/*; do echo "${dev##*/} $(($(cat "$dev/size") * 512))"; done ;;
    *) disk_usage ;;
    esac
}

# block_put DEV BLOCK TEXT, block_get DEV BLOCK: one block of 4 KiB, a line and blanks after it.
block_put() {
    [ -b "/dev/$1" ] || { echo "no disk $1"; return 1; }
    printf '%s\n%4096s' "$3" '' | dd of="/dev/$1" bs=4096 seek="$2" count=1 iflag=fullblock oflag=direct conv=fsync,notrunc 2>/dev/null
}

block_get() {
    dd if="/dev/$1" bs=4096 skip="$2" count=1 iflag=direct 2>/dev/null | head -n 1
}

# fs make DEV | put DEV NAME TEXT | get DEV NAME: files on an ext2 file system (mounted by the ext4 driver).
# get reads through a fresh mount, so it tells what is on the disk.
fs() {
    mkdir -p "/mnt/$2"
    case "$1" in
    make)
        umount "/mnt/$2" 2>/dev/null
        mke2fs "/dev/$2" >/dev/null && mount -t ext4 "/dev/$2" "/mnt/$2" && umount "/mnt/$2"
        ;;
    put) mount -t ext4 "/dev/$2" "/mnt/$2" && echo "$4" >"/mnt/$2/$3" && umount "/mnt/$2" ;;
    get) mount -t ext4 -o ro "/dev/$2" "/mnt/$2" && cat "/mnt/$2/$3" && umount "/mnt/$2" ;;
    *) echo "usage: fs make DEV | put DEV NAME TEXT | get DEV NAME"; return 2 ;;
    esac
}
