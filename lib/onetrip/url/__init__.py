"""Database URLs as values."""
