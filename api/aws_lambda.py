"""Lambda's door: `handler` answers API Gateway (REST and HTTP), ALB and Function URL events."""

import asyncio

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

from api.index import app
from lib.engine import database
from lib.lifecycle import close_before_snapshot, close_on_termination

# Mangum wants a loop to exist, and Python no longer makes one by itself.
asyncio.set_event_loop(asyncio.new_event_loop())

handler = Mangum(
    app,
    # The process owns the engine; a lifespan would open and close it on every invocation.
    lifespan="off",
    # What is not listed is sent in base64.
    text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"],
)

close_before_snapshot(database())
if database().settings.platform.name != "server":
    close_on_termination(database())
