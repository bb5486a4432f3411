"""What must survive: definitions, snapshot trees, image ownership and the journal, in one SQLite file.

`database.open_store` is the way in. What is not here: locks on domains (`engine`), the images themselves,
and any decision about what to write; callers bring values of `model` and get the same values back.
"""
