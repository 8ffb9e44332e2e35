"""Lambda's door: `handler` answers API Gateway (REST and HTTP), ALB and Function URL events, and pings."""

# The application first: it begins to connect.
from api.index import app

# isort: split
from api.aws_adapter import adapted
from lib.engine import database
from lib.lifecycle import close_before_snapshot, close_on_termination

handler = adapted(app)

close_before_snapshot(database())
if database().settings.platform.name != "server":
    close_on_termination(database())
