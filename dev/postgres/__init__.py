"""An embedded PostgreSQL for development and tests."""
