import time, psycopg, pytest
from dataclasses import replace
from pathlib import Path
import tempfile
from tests import pgbouncer
from tests.conftest import free_port
from tests.reliability.network import until
from lib import retry
def attempt(**kw):
    try:
        psycopg.connect(**kw).close(); return None
    except psycopg.Error as e:
        return e
def test_messages(servers):
    hba = Path(psycopg.connect(**servers.url("direct").connect_arguments()).execute("show hba_file").fetchone()[0])
    old = hba.read_text()
    servers.administer("CREATE ROLE stranger LOGIN PASSWORD 'right'")
    hba.write_text("host all stranger all scram-sha-256\n"+old)
    servers.administer("SELECT pg_reload_conf()")
    users = servers.pooler.folder/"users.txt"
    users.write_text(users.read_text()+'"stranger" ""\n"nobody_here" ""\n')
    servers.pooler.command("RELOAD")
    time.sleep(1)
    folder = Path(tempfile.mkdtemp()); folder.chmod(0o755)
    md5 = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, {"auth_type": "md5"})
    def show(name, url, **kw):
        for i in range(3):
            b=time.time()
            e = attempt(**{**url.connect_arguments(), **kw})
            print(f"== {name}: {e!r} sqlstate={getattr(e,'sqlstate',None)} passes={e and retry.passes_by_itself(e)} {time.time()-b:.2f}")
    for route in ("direct","pooled"):
        url = servers.url(route)
        show(f"{route} wrong password", url, user="stranger", password="wrong")
        show(f"{route} no password", url, user="stranger")
        show(f"{route} unknown role", url, user="nobody_here")
        show(f"{route} unknown db", url, dbname="timeout_nonexistent")
        show(f"{route} localhost", replace(url, host="localhost"), user="stranger", password="wrong")
    with pgbouncer.running(md5):
        pass
