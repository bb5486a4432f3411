"""The lab: one small Linux guest, built from distribution packages, for demo, tests and benchmark.

`guest` builds it, `domain` writes libvirt XML that runs it, `console` talks to it, `machine` runs it under a
bare QEMU. The lab knows nothing of virtsnap and is not part of the wheel.
"""
