"""What clients once asked a libvirtd; see player.py."""
