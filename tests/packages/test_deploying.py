"""The command that deploys takes the package that was tested, as it is."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from deploy.__main__ import BUILD
from deploy.toolbox import node_tool, run
from tests.documents import DOCS, commands
from tests.packages.vercel_api import vercel_api

ACCOUNT = {"VERCEL_ORG_ID": "team_1", "VERCEL_PROJECT_ID": "prj_1", "VERCEL_TOKEN": "token"}


@pytest.mark.parametrize("options", [(), ("--prod",)], ids=["preview", "production"])
def test_the_same_package_is_deployed_to_either_environment(options: tuple[str, ...]) -> None:
    """For previews and production the command line sends the built output, and nothing else."""
    variables = {**ACCOUNT, "VERCEL_TELEMETRY_DISABLED": "1", "NO_UPDATE_NOTIFIER": "1"}
    with vercel_api() as api:
        address = f"http://127.0.0.1:{api.server_port}"
        run(
            node_tool("vercel"),
            "--prebuilt",
            *options,
            "--api",
            address,
            folder=BUILD / "vercel",
            variables=variables,
        )
        (deployment,) = api.deployments
    assert deployment.get("target") == ("production" if options else None)
    names = {PurePosixPath(file["file"]) for file in deployment["files"]}
    assert {name.parts[:2] for name in names} == {(".vercel", "output")}
    assert json.loads((BUILD / "vercel/.vercel/output/config.json").read_text())["version"] == 3


def test_the_command_lines_take_every_option_that_the_page_shows() -> None:
    """The own help of Vercel's and Serverless's programs lists what docs/deploying.md gives them."""
    shown = [command for command in commands(DOCS / "deploying.md") if command.name != "vercel"]
    names = {command.name for command in shown if command.name.startswith("osls ")}
    assert names == {"osls deploy", "osls invoke", "osls logs", "osls remove"}
    for name in names:
        options = {option for command in shown if command.name == name for option in command.options}
        help_text = run(node_tool("osls"), name.removeprefix("osls "), "--help")
        assert [option for option in options if option not in help_text] == [], name
    help_text = run(node_tool("vercel"), "deploy", "--help")
    vercel = [command for command in commands(DOCS / "deploying.md") if command.name == "vercel"]
    assert vercel
    assert [option for command in vercel for option in command.options if option not in help_text] == []
