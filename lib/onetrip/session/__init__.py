"""Units of work on a database."""
