"""The example: people and their tasks. Delete this room, its routes and its migration to start your own."""
