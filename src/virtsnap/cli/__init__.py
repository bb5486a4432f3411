"""The command line: virsh's commands, grammar and layouts over a `virtsnap.service` Service."""
