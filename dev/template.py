"""The template's own: its names, and the files, packages and targets that an application leaves behind."""

from __future__ import annotations

import re

TEMPLATE = "fastapi-on-neon"
TITLE = "FastAPI on Neon"
# About the template: its pages, measures, release, and what is tested of them.
TEMPLATES_OWN = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "llms.txt", "AGENTS.md", "docs"),
    *("benchmarks", "dev/new.py", "dev/template.py", "dev/starter", "deploy/onetrip", "deploy/wheel.py"),
    *(
        ".github/workflows/release.yml",
        "tests/documents.py",
        "tests/dev/pictures.py",
        "tests/dev/test_new.py",
        "tests/test_*.py",
        "tests/adoption",
        "tests/faults",
        "tests/idioms",
    ),
    *(
        "tests/packages/test_deploying.py",
        "tests/packages/test_wheel.py",
        "tests/platforms/test_import_budget.py",
    ),
)
EXAMPLES_OWN = (
    *("lib/example", "api/example.py", "api/caller.py", "api/hashing.py", "api/description.py"),
    *("api/routes/*.py", "lib/migrations/versions/*"),
    *("tests/example", "tests/migrations", "tests/platforms", "tests/dev"),
    # They send the example's requests to the built packages.
    *(f"tests/packages/{name}.py" for name in ("test_session", "test_snapshot", "test_bytecode")),
    *(f"tests/packages/{name}.py" for name in ("test_lambda_events", "test_build_step", "runtime_api")),
    *("tests/packages/typed_client", "deploy/tools/api-client.txt"),
)
# Only the example needs them: passwords, tokens, forms, and what these bring along.
EXAMPLES_PACKAGES = ("argon2-cffi", "argon2-cffi-bindings", "cffi", "pycparser", "pyjwt", "python-multipart")
# Lists in which the example's files stand.
MENTIONS = ("deploy/lambda_package.py", "vercel.json", "Makefile", "tests/packages/test_contents.py")
# Files that name the keys of the example's tokens, and how.
NAMES_KEYS = (
    *(".env.example", "serverless.yml", "deploy/web_function.yml", ".github/workflows/deploy.yml"),
    "tests/packages/test_template.py",
)
KEYS = (
    r"^# .*\n# (JWT|IDENTITY)_\w+=.*\n\n?",
    r"(^ *# [^\n]*\n)*^ *jwtSecretKey:.*\n",
    r"^ *JWT_SECRET_KEY: \$\{param:.*\n",
    r"^ *JWT_SECRET_KEY: !If\n( +- .*\n)+",
    r"^ *JwtSecretArn:\n(    +.*\n)+",
    r"^ *HasJwtSecret: .*\n",
    r"^.*JWT_SECRET_KEY_REFERENCE.*\n",
)
# Only the layer's own tests need them.
LAYERS_TESTS = (
    "cryptography",
    "flask",
    "flask-cors",
    "hypothesis",
    "moto",
    "schemathesis",
    "trustme",
    "opentelemetry-sdk",
    "pytest-xdist",
    "types-greenlet",
)
TARGETS = (
    "test-plain",
    "faults",
    "sqlalchemy-suite",
    "coverage",
    "bench",
    "bench-quick",
    "wheel",
    "new",
    "pictures",
    "test-all",
)
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# The layer and its tests keep their own form, whatever the application's name does to a line.
LEFT_ALONE = """extend-exclude = [
    "deploy", "lib/onetrip", "tests/dev", "tests/onetrip", "tests/packages", "tests/platforms",
]"""
LINT = """[tool.ruff.lint]
select = ["B", "E", "F", "I", "UP", "W"]
ignore = ["B008", "E501"] # FastAPI's defaults are calls; the formatter decides where a line ends
per-file-ignores = { "**/conftest.py" = ["F401", "F811"] } # fixtures of other modules

"""
