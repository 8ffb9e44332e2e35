"""The layers around every request: its id, deadline, repetition, prefix, body and response."""
