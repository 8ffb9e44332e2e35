"""Vercel's and uvicorn's entrypoint: the ASGI `app`."""

from lib.onetrip.fastapi.startup import started, starting

with starting(own="lib.settings:OWN"):
    from api.application import create_app
    from lib.onetrip.pool.database import database

# At the top level, where Vercel finds it by reading.
app = create_app(database())
started(app)
