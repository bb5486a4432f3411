"""Everything that touches QEMU: monitor, process, block graph, memory images, qemu-img, and the facts."""
