"""AWS: Lambda's events, secrets and metrics."""
