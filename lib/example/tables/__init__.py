"""The example's tables. A route imports only those that it needs."""
