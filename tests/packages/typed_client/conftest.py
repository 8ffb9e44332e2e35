"""The application's database as its own tests have it: served by the role that owns nothing."""

from __future__ import annotations

from tests.example.conftest import make_settings
