import sys; sys.path.insert(0,"/work/main")
from tests.reliability.test_retries import *
from tests.reliability.test_retries import proxy, tried, _Mortal
import traceback
import api.middleware as mw
import lib.single_flight as sf
@pytest.mark.parametrize("route", ["direct", "pooled"], indirect=True)
@pytest.mark.parametrize("way", ["sync"])
@pytest.mark.parametrize("n", range(14))
def test_x(tried, way, n, monkeypatch, route):
    log = []
    orig = sf.FlightCursor.execute
    def execute(self, q, *a, **k):
        try:
            return orig(self, q, *a, **k)
        except BaseException as e:
            log.append((self.connection.closed, self.connection.pgconn.pipeline_status, self.connection.pgconn.status, e))
            raise
    monkeypatch.setattr(sf.FlightCursor, "execute", execute)
    bad = 0
    for i in range(50):
        log.clear()
        w = _Mortal(adds=False)
        a = tried.ask(w, way, "reading")
        if a.status != 200:
            bad += 1
            Path(f"/tmp/bad_{way}_{route}_{n}_{i}.txt").write_text(a.response.text + "\n" + "\n-----\n".join(str(r)+ "".join(traceback.format_exception(r[-1])) for r in log))
    print("==", way, bad)
