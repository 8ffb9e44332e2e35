"""One network round trip for each transaction: SQLAlchemy on Neon Postgres from serverless functions."""
