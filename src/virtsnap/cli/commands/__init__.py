"""One module per command or per family of commands. `cli.registry` says which holds what."""
