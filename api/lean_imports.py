"""FastAPI, imported without what it prepares for everybody. Imported before anything else of FastAPI.

What this saves is in docs/benchmarks/cold-start.md.
"""

import sys

from pydantic import BaseModel

# Its models of OpenAPI documents, dozens, are built when a document is first asked for, which in
# production never happens. Only its models: FastAPI wants those of the routes ready.
BaseModel.model_config["defer_build"] = True
try:
    import fastapi  # noqa: F401
finally:
    del BaseModel.model_config["defer_build"]

# FastAPI looks whether a class is a model of Pydantic 1, for which it imports that, and takes its
# absence for no.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]  # the import system's own word for absent
