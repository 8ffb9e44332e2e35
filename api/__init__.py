"""The HTTP side: two doors, one application, its routes."""
