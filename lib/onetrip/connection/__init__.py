"""One connection: from the URL to the socket, and each statement's way along it."""
