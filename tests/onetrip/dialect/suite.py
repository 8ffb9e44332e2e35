"""SQLAlchemy's own tests of what a dialect must do; run by `test_dialect_suite.py`."""

from sqlalchemy.testing.suite import *  # noqa: F403  (all of them)
