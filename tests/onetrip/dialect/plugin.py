"""Lets SQLAlchemy's suite for dialects of others run in this project's folder."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects.postgresql import provision  # noqa: F401  (how its databases are prepared)

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403  (hooks of pytest)

from tests.onetrip.dialect import dialects  # noqa: E402, F401  (after the rewrite)
