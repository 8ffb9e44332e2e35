"""A little data to look at, put into an empty database once."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import insert, select

from lib.example import passwords, tasks
from lib.example.identity import Caller
from lib.example.models import Account, Post, Priority, Role, Status, User
from lib.onetrip.pool.database import Database, database
from lib.onetrip.session.session import transaction
from lib.onetrip.settings.settings import settings_or_exit

# Published: these users are for development only.
PASSWORD = "difference engine"  # noqa: S105  (no secret)
PEOPLE = {"ada": Role.ADMIN, "grace": Role.USER}
TASKS = {
    "ada": (
        ("Write the first program", Status.DONE, Priority.HIGH, ["engine"]),
        ("Describe what the engine may do", Status.IN_PROGRESS, Priority.MEDIUM, ["engine", "notes"]),
        ("Translate Menabrea", Status.TODO, Priority.URGENT, ["notes"]),
    ),
    "grace": (
        ("Find the moth", Status.DONE, Priority.URGENT, ["lab"]),
        ("Compile it", Status.TODO, Priority.LOW, []),
    ),
}


def seed(of: Database) -> int:
    """Add sample users and their rows if there are no users; return the number of added rows."""
    with transaction(of) as session:
        if session.scalar(select(User.id).limit(1)):
            return 0
        kept = passwords.hashed(PASSWORD)
        people = [
            User(username=name, email=f"{name}@example.com", role=role, password_hash=kept)
            for name, role in PEOPLE.items()
        ]
        session.add_all(people)
    return len(people) + sum(_fill(of, person.id, person.username) for person in people)


def _fill(of: Database, user_id: int, username: str) -> int:
    """Add the rows of one user, as that user: the tables allow no other."""
    fields = ("title", "status", "priority", "tags")
    new = [
        {"description": "", "due_at": None, **dict(zip(fields, row, strict=True))} for row in TASKS[username]
    ]
    with transaction(of, Caller(user_id).options()) as session:
        session.execute(insert(Post).values(title="Hello", content=f"I am {username}."))
        session.execute(insert(Account).values(name="Savings", balance=Decimal("100.00")))
        return 2 + len(tasks.create(session, new))


def main() -> None:
    """Seed the process's database."""
    if settings_or_exit().is_production:
        raise SystemExit("Not seeded: ENVIRONMENT is production, and everyone knows the password.")
    added = seed(database())
    print(f"Seeded {added} rows" if added else "Not seeded: there is data")  # noqa: T201  (a program)


if __name__ == "__main__":
    main()
