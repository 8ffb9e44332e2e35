"""The package's side of a FastAPI application."""
