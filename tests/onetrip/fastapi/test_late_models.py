"""FastAPI works the same whether its models of OpenAPI documents are imported with it or later."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import fastapi  # noqa: F401  (as every application does)

from lib.onetrip.fastapi.late_models import NAME, late_models
from tests.onetrip.environment import PROJECT, clean_environment

PROGRAM = """
import copy, json, pickle, sys
from contextlib import nullcontext
from lib.onetrip.fastapi.late_models import NAME, late_models

with late_models() if {late} else nullcontext():
    import fastapi
    from fastapi import security
found = {{}}
found["late"] = NAME not in sys.modules
from fastapi import Body, Depends, FastAPI, Query, Security

schemes = [
    security.OAuth2PasswordBearer("token", scopes={{"read": "all"}}, refreshUrl="again", description="one"),
    security.OAuth2AuthorizationCodeBearer("authorize", "token", scheme_name="code"),
    security.OAuth2(), security.OAuth2(flows={{"implicit": {{"authorizationUrl": "there", "scopes": {{}}}}}}),
    security.HTTPBasic(realm="here"), security.HTTPBearer(bearerFormat="JWT"), security.HTTPDigest(),
    security.OpenIdConnect(openIdConnectUrl="https://example.com/openid"),
]
found["still late"] = NAME not in sys.modules
schemes += [security.APIKeyHeader(name="X-Key"), security.APIKeyCookie(name="key")]
app = FastAPI()
for number, scheme in enumerate(schemes):
    scheme.scheme_name = f"{{scheme.scheme_name}} {{number}}"

    @app.get(f"/{{number}}")
    def read(
        given: object = Security(scheme, scopes=["read"]),
        q: str = Query("x", openapi_examples={{"one": {{"summary": "an example", "value": "y"}}}}),
    ) -> str:
        return "read"

password = schemes[0]
found["document"] = app.openapi()
found["dumps"] = [scheme.model.model_dump(by_alias=True, mode="json") for scheme in schemes]
found["repr"] = [repr(scheme.model) for scheme in schemes]

from fastapi.openapi import models

found["kinds"] = [
    [isinstance(scheme.model, kind) for kind in (models.SecurityBase, models.OAuth2, models.APIKey)]
    for scheme in schemes
]
found["named"] = [
    isinstance(password.model, security.oauth2.OAuth2Model),
    issubclass(models.OAuth2, security.oauth2.OAuth2Model),
    security.oauth2.OAuth2Model.model_fields.keys() == models.OAuth2.model_fields.keys(),
    security.api_key.APIKeyIn.header is models.APIKeyIn.header,
    fastapi.openapi.models is models,
]
found["copies"] = [
    scheme.model == copied
    for scheme in schemes
    for copied in (
        copy.copy(scheme.model), copy.deepcopy(scheme.model), pickle.loads(pickle.dumps(scheme.model))
    )
]
found["unequal"] = password.model != schemes[1].model
password.model.description = "changed"
found["changed"] = password.model.model_dump()["description"]
found["scope"] = password.model.flows.password.scopes
try:
    hash(password.model)
except TypeError:
    found["hash"] = "none"
try:
    security.OAuth2(flows="none").model.flows
except ValueError:
    found["invalid"] = "refused"
print(json.dumps(found))
"""


def _found(*, late: bool) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(late=late)],
        cwd=PROJECT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_everything_is_as_with_the_models_imported_at_once() -> None:
    """Documents, kinds, copies, comparisons and refusals are equal, and only they import the models."""
    late, plain = _found(late=True), _found(late=False)
    assert (late.pop("late"), late.pop("still late")) == (True, True)
    assert (plain.pop("late"), plain.pop("still late")) == (False, False)
    assert late == plain
    assert all(late["named"])
    assert all(late["copies"])


def test_where_fastapi_is_imported_nothing_changes() -> None:
    """A process that has FastAPI already keeps its models."""
    before = sys.modules.get(NAME)
    with late_models():
        assert sys.modules.get(NAME) is before
    assert sys.modules.get(NAME) is before
