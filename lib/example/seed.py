"""A little data to look at, put into an empty database once."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lib.example.models import Priority, Role, Status, Task, User
from lib.example.tasks import created
from lib.session import transaction
from lib.settings import settings_or_exit


def seed(session: Session) -> int:
    """Add sample users and tasks if there are no users; return how many rows were added."""
    if session.scalar(select(func.count()).select_from(User)):
        return 0
    ada = User(username="ada", email="ada@example.com", role=Role.ADMIN)
    grace = User(username="grace", email="grace@example.com")
    session.add_all([ada, grace])
    session.flush()
    tasks: list[Task] = [
        created({"owner_id": owner.id, "title": title, "status": status, "priority": priority})
        for owner, title, status, priority in (
            (ada, "Write the first program", Status.DONE, Priority.HIGH),
            (ada, "Describe what the engine may do", Status.IN_PROGRESS, Priority.MEDIUM),
            (grace, "Find the moth", Status.DONE, Priority.URGENT),
            (grace, "Compile it", Status.TODO, Priority.LOW),
        )
    ]
    session.add_all(tasks)
    return 2 + len(tasks)


def main() -> None:
    """Seed the process's database."""
    settings_or_exit()
    with transaction() as session:
        added = seed(session)
    print(f"Seeded {added} rows" if added else "Not seeded: there is data")  # noqa: T201  (a program)


if __name__ == "__main__":
    main()
