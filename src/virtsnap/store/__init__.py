"""SQLite: domain definitions, snapshot trees, image ownership, the journal. One transaction makes a snapshot real."""
