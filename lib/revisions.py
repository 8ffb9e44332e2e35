"""The migrations that this code knows, the newest last; a test keeps them equal to lib/migrations."""

REVISIONS = ("0001",)
