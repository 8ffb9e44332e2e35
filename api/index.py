"""Vercel's door, and uvicorn's: the ASGI `app`."""

from lib.cold_start import cold_start  # isort: skip  (it times what follows)

from api.application import create_app
from lib.engine import database
from lib.settings import settings_or_exit

cold_start.imported()
with cold_start.phase("settings"):
    settings_or_exit()
with cold_start.phase("application"):
    app = create_app(database())
