# The command agent: one command per line in, one framed answer out.
#
#   host:  @ID COMMAND #ID
#   guest: @ID rc=N len=BYTES
#          BYTES bytes of output (stdout and stderr, newlines at its end removed)
#          @ID end
#
# The trailing #ID proves that a line arrived whole: after a revert the guest may hold half a line that its first
# sender never finished. Any other line is dropped. At start, and after a reset, the agent says "@ready RELEASE".

agent() {
    exec <>"$1" >&0 2>/dev/null
    stty -F "$1" -echo -opost -isig -iexten -ixon icanon icrnl
    printf '\n@ready %s\n' "$(uname -r)"
    while IFS= read -r line; do
        id=${line#@}
        id=${id%% *}
        command=${line#"@$id "}
        case "$line" in
        "@$id "*" #$id") agent_run "$id" "${command%" #$id"}" ;;
        esac
    done
}

agent_run() {
    out=$(eval "$2" 2>&1 </dev/null)
    rc=$?
    printf '\n@%s rc=%d len=%d\n%s\n@%s end\n' "$1" "$rc" "${#out}" "$out" "$1"
}
