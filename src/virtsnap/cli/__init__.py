"""The command line: virsh's commands, options, layout and messages."""
