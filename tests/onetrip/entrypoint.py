"""The application as a process serves it: `app` for ASGI, `handler` for Lambda."""

from lib.onetrip.fastapi.startup import started, starting

with starting():
    from lib.onetrip.aws.adapter import adapted
    from lib.onetrip.pool.database import database
    from lib.onetrip.pool.shutdown import close_before_snapshot, close_on_termination
    from tests.onetrip.application import create_app

app = create_app(database())
handler = adapted(app)
started(app)
close_before_snapshot(database())
if database().settings.platform.name != "server":
    close_on_termination(database())
