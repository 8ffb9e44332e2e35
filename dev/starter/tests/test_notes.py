"""Notes are kept."""

from fastapi.testclient import TestClient

from lib.onetrip.testing import round_trips


def test_a_note_is_found_again(client: TestClient) -> None:
    """A created note is in the list, which takes one round trip."""
    note = client.post("/api/v1/notes", json={"text": "Remember the milk"})
    assert note.status_code == 201
    with round_trips(1):
        assert client.get("/api/v1/notes").json() == [note.json()]
