"""An extension that does nothing, registered from within the function's process at its start.

Lambda sends SIGTERM before it ends a process only where an extension is registered, as monitoring
layers and the one for secrets are. Python imports this module by its name.
"""

import http.client
import os
import threading

API = "/2020-01-01/extension"


def _register() -> None:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("POST", f"{API}/register", '{"events": []}', {"Lambda-Extension-Name": "waiting"})
    with connection.getresponse() as response:
        headers = {"Lambda-Extension-Identifier": response.headers["Lambda-Extension-Identifier"]}

    def wait() -> None:
        connection.request("GET", f"{API}/event/next", headers=headers)
        connection.getresponse()

    threading.Thread(target=wait, daemon=True).start()


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    _register()
