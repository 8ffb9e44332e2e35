"""Lambda's entrypoint: `handler` answers API Gateway, ALB and Function URL events, and pings."""

# The application first: it begins to connect.
from api.index import app

# isort: split
from lib.onetrip.aws.adapter import adapted
from lib.onetrip.pool.database import database
from lib.onetrip.pool.shutdown import close_before_snapshot, close_on_termination

handler = adapted(app)

close_before_snapshot(database())
if database().settings.platform.name != "server":
    close_on_termination(database())
