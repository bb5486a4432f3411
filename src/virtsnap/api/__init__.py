"""The Python API: objects and method names that a libvirt-python user knows, async and sync."""
