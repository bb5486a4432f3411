"""virtsnap: snapshots for QEMU virtual machines, in libvirt's own terms."""

__version__ = "0.1.0"
