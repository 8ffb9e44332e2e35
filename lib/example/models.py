"""All of the example's tables, for what needs them together: migrations, the seed, tests."""

from lib.example.columns import Priority, Role, Status
from lib.example.tables.idempotency import IdempotencyKey
from lib.example.tables.money import Account, Transfer
from lib.example.tables.people import User
from lib.example.tables.posts import Post
from lib.example.tables.records import Attempts, Audit
from lib.example.tables.tasks import TAGS, Tag, Task, TaskTag
from lib.models import Base

__all__ = [
    "TAGS",
    "Account",
    "Attempts",
    "Audit",
    "Base",
    "IdempotencyKey",
    "Post",
    "Priority",
    "Role",
    "Status",
    "Tag",
    "Task",
    "TaskTag",
    "Transfer",
    "User",
]
