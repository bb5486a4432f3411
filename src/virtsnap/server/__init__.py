"""The daemon's inside: sockets, clients, and libvirt's calls carried out by the service."""
