"""The example: users and their tasks. Delete this package, its routes and its migration to start your own."""
