"""Lambda's door for health checks: `handler` answers them as the application does, and starts sooner.

A function of its own, which answers while the API is busy or throttled. What takes longest to import
waits for the first probe of the database, so `/health/live` needs neither SQLAlchemy nor psycopg. Its
connections are the system's to close: a process that ends by SIGTERM takes them along.
"""

import gc

from lib.onetrip.cold_start import cold_start

gc.disable()

with cold_start.phase("settings"):
    from lib.onetrip.observability import json_log as telemetry
    from lib.onetrip.settings.settings import settings_or_exit

    settings = settings_or_exit()
    telemetry.install(settings)

with cold_start.phase("imports"):
    from lib.onetrip.fastapi.install import complete_routes, create_health_app

    # isort: split
    from lib.onetrip.aws.adapter import adapted
    from lib.onetrip.health.probe import Probe

app = create_health_app(settings, Probe())
complete_routes(app)
handler = adapted(app)

gc.freeze()
gc.enable()
