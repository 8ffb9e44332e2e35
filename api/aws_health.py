"""Lambda's entrypoint for health checks: `handler` answers them as the application does, and starts sooner.

A function of its own, which answers while the API is busy or throttled. SQLAlchemy and psycopg are
imported by the first probe of the database, so `/health/live` needs neither. Its connections are the
system's to close: a process that ends by SIGTERM takes them along.
"""

from lib.onetrip.fastapi.startup import started, starting

with starting(connects_early=False) as settings:
    from api.blank_application import blank_application
    from lib.onetrip.aws.adapter import adapted
    from lib.onetrip.fastapi.requests import install_requests
    from lib.onetrip.fastapi.services import Services
    from lib.onetrip.health.probe import Probe
    from lib.revisions import REVISIONS

app = blank_application(settings)
install_requests(app, Services(settings, Probe(revisions=REVISIONS)))
handler = adapted(app)
started(app)
