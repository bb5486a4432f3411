"""libvirt's remote protocol without I/O: bytes in, calls and answers out, and back. For both sides."""
