"""Carries plans out: do, undo and probe for each kind of step; locks, progress, recovery."""
