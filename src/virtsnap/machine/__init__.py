"""From a domain definition to the machine that the guest sees.

libvirt's implicit devices and addresses, and QEMU's command line. Pure: knows no files and no processes.
"""
