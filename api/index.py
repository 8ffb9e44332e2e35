"""Vercel's door, and uvicorn's: the ASGI `app`.

The order is the point: the clock first, then the connection in a thread of its own, then the
settings, and the imports that take long last. The garbage collector would only find that nothing is
garbage yet.
"""

import gc

from lib.onetrip.cold_start import cold_start

gc.disable()

with cold_start.phase("early_connection"):
    from lib.onetrip.connection import early as early_connection

    early_connection.start_likely()

with cold_start.phase("settings"):
    from lib.onetrip.observability import json_log as telemetry
    from lib.onetrip.settings.settings import settings_or_exit

    settings = settings_or_exit()
    telemetry.install(settings)
    early_connection.start(settings)

with cold_start.phase("imports"):
    from api.application import create_app, prepare
    from lib.onetrip.pool.database import database

# At the top level, where Vercel looks for it without running this.
app = create_app(database())
prepare(app)

gc.freeze()
gc.enable()
