"""SQLite: definitions, snapshot trees, image ownership, journal. One transaction makes a snapshot real."""
