"""The state of the database and of its schema."""
