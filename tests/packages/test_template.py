"""The CloudFormation that `serverless.yml` becomes: valid, and allowed no more than it needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy import lambda_package
from deploy.__main__ import BUILD, EXAMPLE_SECRET
from deploy.toolbox import PROJECT, PYTHON_VERSION, ToolError, python, python_packages, run

OPTIONS = {
    "snapStart": "true",
    "warmUp": "true",
    "reservedConcurrency": "20",
    "memory": "512",
    "logRetentionInDays": "7",
    "throttlingRate": "50",
    "throttlingBurst": "80",
    "accessLog": "false",
}
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"
PARAMETER = "/fastapi-on-neon/database-url"
SECRET = {"databaseSecretArn": EXAMPLE_SECRET}
OWNERS_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:owner-url-AbCdEf"
# The variables of every function, and of the API alone: the signing key is the example's, a reference.
ALWAYS = {"ENVIRONMENT": "preview"}
ONLY_THE_APIS = {"JWT_SECRET_KEY": ""}
# The source of the URL: the variable that the functions get, and their rights for it.
SOURCES: dict[str, tuple[dict[str, str], dict[str, str], list[dict[str, object]]]] = {
    "template": (SECRET, {"DATABASE_URL": f"{{{{resolve:secretsmanager:{EXAMPLE_SECRET}}}}}"}, []),
    "secretsmanager": (
        SECRET,
        {"DB_SECRET_ARN": EXAMPLE_SECRET},
        [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": EXAMPLE_SECRET}],
    ),
    "ssm": (
        {"databaseUrlParameter": PARAMETER},
        {"DATABASE_URL_PARAMETER": PARAMETER},
        [
            {
                "Effect": "Allow",
                "Action": "ssm:GetParameter",
                "Resource": {
                    "Fn::Sub": "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter"
                    + PARAMETER
                },
            }
        ],
    ),
}
# Each option by itself, and all together; each way to the URL.
GIVEN: dict[str, dict[str, str]] = {
    **{name: {**SECRET, name: value} for name, value in OPTIONS.items()},
    "options": {**SECRET, **OPTIONS},
    "alarms": {**SECRET, "alarms": "on", "alarmTopicArn": TOPIC},
    "owner": {**SECRET, "migrationSecretArn": OWNERS_SECRET},
    **{name: {**given, "urlFrom": name} for name, (given, _, _) in SOURCES.items()},
}
TEMPLATE = "cloudformation-template-update-stack.json"
# It objects to dependencies that osls states though CloudFormation would find them by itself.
IGNORED_RULES = "W3005"


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The template for each processor, one for each option, and one with every option taken."""
    built = {name: BUILD / "lambda" / name / TEMPLATE for name in lambda_package.ARCHITECTURES}
    folder = tmp_path_factory.mktemp("options")
    # One after the other: osls first writes all of them into the same folder.
    return {
        **built,
        **{name: lambda_package.template(folder / name, "arm64", **GIVEN[name]) for name in GIVEN},
    }


@pytest.fixture(params=[*lambda_package.ARCHITECTURES, *GIVEN])
def path(request: pytest.FixtureRequest, templates: dict[str, Path]) -> Path:
    """Each of the templates."""
    return templates[request.param]


def resources(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of the resources of a kind, by name."""
    template = json.loads(path.read_text())
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def throttling(path: Path) -> tuple[int, int]:
    """Requests a second, and in a burst; CloudFormation reads a parameter's text as a number."""
    (stage,) = resources(path, "AWS::ApiGatewayV2::Stage").values()
    settings = stage["DefaultRouteSettings"]
    return int(settings["ThrottlingRateLimit"]), int(settings["ThrottlingBurstLimit"])


def test_the_linter_has_no_objection(templates: dict[str, Path]) -> None:
    """AWS's own linter finds every template valid."""
    packages = python_packages("cfn-lint")
    lint = (python(), packages / "bin" / "cfn-lint", "--ignore-checks", IGNORED_RULES, "--template")
    run(*lint, *templates.values(), variables={"PYTHONPATH": str(packages)})


def test_a_function_has_bounds(path: Path) -> None:
    """Each function ends before what waits for it, keeps its logs for a while, and runs our Python."""
    functions = resources(path, "AWS::Lambda::Function")
    assert {name: function["Timeout"] for name, function in functions.items()} == {
        # An HTTP API waits 30 s.
        "ApiLambdaFunction": 29,
        "HealthLambdaFunction": 10,
        "MigrateLambdaFunction": 900,
    }
    assert {function["Runtime"] for function in functions.values()} == {f"python{PYTHON_VERSION}"}
    assert {group["RetentionInDays"] for group in resources(path, "AWS::Logs::LogGroup").values()} <= {7, 30}
    rate, burst = throttling(path)
    assert rate in {50, 500}
    assert burst in {80, 1000}


def test_a_role_may_write_its_own_logs_and_no_more(path: Path) -> None:
    """No wildcard, no managed policy, no other action than the one that logging needs."""
    functions = resources(path, "AWS::Lambda::Function")
    roles = resources(path, "AWS::IAM::Role")
    assert {function["Role"]["Fn::GetAtt"][0] for function in functions.values()} == {*roles}
    for name, role in roles.items():
        assert "ManagedPolicyArns" not in role
        wearers = {
            key.removesuffix("LambdaFunction")
            for key, function in functions.items()
            if name in str(function["Role"])
        }
        own_logs = [{"Fn::GetAtt": [f"{wearer}LogGroup", "Arn"]} for wearer in sorted(wearers)]
        (statement,) = (part for policy in role["Policies"] for part in policy["PolicyDocument"]["Statement"])
        assert statement == {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": own_logs,
        }


def test_a_template_names_the_secret_and_does_not_tell_it(path: Path) -> None:
    """Nothing that is uploaded for a deployment holds a URL."""
    state = (path.parent / "serverless-state.json").read_text()
    assert re.findall(r"postgres(?:ql)?://", path.read_text() + state) == []


def variables(path: Path) -> dict[str, dict[str, str]]:
    """The variables of each function, by its name."""
    functions = resources(path, "AWS::Lambda::Function")
    return {name: function["Environment"]["Variables"] for name, function in functions.items()}


def expected(serving: dict[str, str], migrating: dict[str, str]) -> dict[str, dict[str, str]]:
    """The variables that each function is to have, with those that lead to the URL."""
    return {
        "ApiLambdaFunction": {**ALWAYS, **ONLY_THE_APIS, **serving},
        "HealthLambdaFunction": {**ALWAYS, **serving},
        "MigrateLambdaFunction": {**ALWAYS, **migrating},
    }


@pytest.mark.parametrize("source", SOURCES)
def test_functions_may_read_their_secret_and_no_other(templates: dict[str, Path], source: str) -> None:
    """Each way to the URL sets one variable, and allows each role to read exactly what it names."""
    _, leads, statements = SOURCES[source]
    path = templates[source]
    assert variables(path) == expected(leads, leads)
    policies = resources(path, "AWS::IAM::Policy").values()
    roles = {policy["Roles"][0]["Ref"] for policy in policies}
    assert roles == ({*resources(path, "AWS::IAM::Role")} if statements else set())
    for policy in policies:
        assert (len(policy["Roles"]), policy["PolicyDocument"]["Statement"]) == (1, statements)


def test_migrations_have_a_secret_of_their_own_if_one_is_named(templates: dict[str, Path]) -> None:
    """The tables' owner is known to the function that migrates, and to no other."""
    path = templates["owner"]
    assert variables(path) == expected({"DB_SECRET_ARN": EXAMPLE_SECRET}, {"DB_SECRET_ARN": OWNERS_SECRET})
    allowed = {
        policy["Roles"][0]["Ref"]: policy["PolicyDocument"]["Statement"][0]["Resource"]
        for policy in resources(path, "AWS::IAM::Policy").values()
    }
    assert allowed == {"ServingRole": EXAMPLE_SECRET, "MigratingRole": OWNERS_SECRET}


def test_by_default_the_functions_read_the_secret_themselves(templates: dict[str, Path]) -> None:
    """No password stands in a function's settings, and a rotation needs no deployment."""
    leads = {"DB_SECRET_ARN": EXAMPLE_SECRET}
    for architecture in lambda_package.ARCHITECTURES:
        assert variables(templates[architecture]) == expected(leads, leads)


@pytest.mark.parametrize("stage", ["dev", "staging", "prod", "Production"])
def test_a_stage_is_production_or_preview(tmp_path: Path, stage: str) -> None:
    """Any other opens nothing: it is refused with a line that names the two."""
    said = rf'"{stage}" is not supported\. Use production or preview'
    with pytest.raises(ToolError, match=said):
        lambda_package.template(tmp_path, "arm64", "--stage", stage, **SECRET)


@pytest.mark.parametrize("stage", ["production", "preview"])
def test_a_stage_is_its_environment(tmp_path: Path, stage: str) -> None:
    """The application keeps the stage's rules."""
    path = lambda_package.template(tmp_path, "arm64", "--stage", stage, **SECRET)
    assert {each["ENVIRONMENT"] for each in variables(path).values()} == {stage}


def test_requests_are_logged_and_alarms_are_a_switch(templates: dict[str, Path]) -> None:
    """API Gateway logs each request; alarms go to the topic that is named."""
    (stage,) = resources(templates["arm64"], "AWS::ApiGatewayV2::Stage").values()
    assert "DestinationArn" in stage["AccessLogSettings"]
    (stage,) = resources(templates["options"], "AWS::ApiGatewayV2::Stage").values()
    assert "AccessLogSettings" not in stage
    assert resources(templates["arm64"], "AWS::CloudWatch::Alarm") == {}
    alarms = resources(templates["alarms"], "AWS::CloudWatch::Alarm")
    assert {alarm["MetricName"] for alarm in alarms.values()} == {"5xx", "Latency", "Errors", "Throttles"}
    assert {str(alarm["AlarmActions"]) for alarm in alarms.values()} == {str([TOPIC])}


def test_the_web_functions_template_is_valid() -> None:
    """AWS's own linter knows its resources, and has no objection."""
    packages = python_packages("cfn-lint")
    lint = (python(), packages / "bin" / "cfn-lint", "--template")
    run(*lint, PROJECT / "deploy" / "web_function.yml", variables={"PYTHONPATH": str(packages)})


@pytest.mark.parametrize("source", SOURCES)
def test_a_deployment_without_its_secrets_name_is_refused(tmp_path: Path, source: str) -> None:
    """A parameter that is missing is an error, not an empty variable."""
    with pytest.raises(ToolError, match="database"):
        lambda_package.template(tmp_path, "arm64", urlFrom=source)


def test_by_default_nothing_costs_while_nobody_asks(templates: dict[str, Path]) -> None:
    """No ping, no snapshot, no reserved instances."""
    path = templates["x86_64"]
    function = resources(path, "AWS::Lambda::Function")["ApiLambdaFunction"]
    assert "SnapStart" not in function
    assert "ReservedConcurrentExecutions" not in function
    assert function["MemorySize"] == 1769
    assert {rule["State"] for rule in resources(path, "AWS::Events::Rule").values()} == {"DISABLED"}
    assert {group["RetentionInDays"] for group in resources(path, "AWS::Logs::LogGroup").values()} == {30}
    assert throttling(path) == (500, 1000)


def test_every_option_can_be_taken(templates: dict[str, Path]) -> None:
    """With SnapStart whatever calls the API calls the alias, whose version has the snapshot."""
    path = templates["options"]
    function = resources(path, "AWS::Lambda::Function")["ApiLambdaFunction"]
    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert function["ReservedConcurrentExecutions"] == 20
    assert function["MemorySize"] == 512
    assert {group["RetentionInDays"] for group in resources(path, "AWS::Logs::LogGroup").values()} == {7}
    assert throttling(path) == (50, 80)
    assert {rule["State"] for rule in resources(path, "AWS::Events::Rule").values()} == {"ENABLED"}
    (alias,) = resources(path, "AWS::Lambda::Alias").values()
    integration = resources(path, "AWS::ApiGatewayV2::Integration")["HttpApiIntegrationApi"]
    assert alias["Name"] in str(integration["IntegrationUri"])


def test_packages_are_the_processors(templates: dict[str, Path]) -> None:
    """A function's package and its processor go together, and no two packages share a name."""
    for architecture in lambda_package.ARCHITECTURES:
        functions = resources(templates[architecture], "AWS::Lambda::Function").values()
        assert {tuple(function["Architectures"]) for function in functions} == {(architecture,)}
        keys = {function["Code"]["S3Key"].rpartition("/")[2] for function in functions}
        assert keys == {f"api-{architecture}.zip", f"migrate-{architecture}.zip"}
