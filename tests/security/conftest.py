"""The same people and databases as in the tests of HTTP."""

from tests.http.conftest import ada, as_user, database_name, make_user, root, used_databases

__all__ = ["ada", "as_user", "database_name", "make_user", "root", "used_databases"]
