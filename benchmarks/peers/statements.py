"""The statements of the designs without an ORM, with psycopg's placeholders."""

READ = "SELECT id, title, status, created_at FROM items WHERE id = %s"
COUNT = "SELECT count(*) FROM items WHERE id <= 1000"
WRITE = "INSERT INTO items (title) VALUES (%s) RETURNING id, title, status, created_at"
WRITE_MANY = "INSERT INTO items (title) SELECT unnest(%s::text[])"
CHANGE = "UPDATE items SET status = %s WHERE id = %s RETURNING id, title, status, created_at"


def numbered(statement: str) -> str:
    """The statement with asyncpg's placeholders."""
    parts = statement.split("%s")
    return parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], 1))
