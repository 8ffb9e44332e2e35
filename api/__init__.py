"""The HTTP application: its entrypoints and routes."""
