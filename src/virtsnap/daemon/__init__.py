"""virtsnapd: the program around `virtsnap.server`. Options, configuration, systemd, signals."""
