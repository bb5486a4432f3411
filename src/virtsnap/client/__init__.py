"""The other side of libvirt's protocol: a service that a daemon carries out, virtsnapd or libvirtd."""
