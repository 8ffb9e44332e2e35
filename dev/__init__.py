"""One's own machine: a server with a PostgreSQL of its own."""
