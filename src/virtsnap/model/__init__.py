"""Frozen values, enums and the error tree. Knows no XML, no JSON, no QEMU, and imports nothing of ours."""
