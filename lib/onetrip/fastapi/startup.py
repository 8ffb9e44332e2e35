"""FastAPI, imported without what it prepares for everybody. Imported before anything else of FastAPI.

What this saves is in docs/benchmarks/cold-start.md.
"""

import sys
from typing import Any

from pydantic import BaseModel

# Its models of OpenAPI documents, dozens, are built when a document is first asked for, which in
# production never happens. Only its models: FastAPI wants those of the routes ready.
BaseModel.model_config["defer_build"] = True
try:
    import fastapi  # noqa: F401
finally:
    del BaseModel.model_config["defer_build"]

from fastapi._compat import shared  # noqa: E402

_is_model_of_pydantic_1 = shared.is_pydantic_v1_model_class


def _asks_only_if_imported(cls: Any) -> bool:
    return "pydantic.v1" in sys.modules and _is_model_of_pydantic_1(cls)


# FastAPI 0.165 imports Pydantic 1 to ask of each class in a route whether it is a model of that. It
# can't be one before somebody else has imported it.
shared.is_pydantic_v1_model_class = _asks_only_if_imported
