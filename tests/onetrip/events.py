"""One request in the shapes in which AWS hands it to a function, as its documentation shows them.

API Gateway's REST API decodes the query and keeps the path as sent; its HTTP API does the reverse; a
Function URL and a load balancer keep both as sent.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

Event = dict[str, Any]

HOST = "api.example.com"
ADDRESS = "203.0.113.7"
AGENT = "curl/8.5.0"


@dataclass(frozen=True)
class Request:
    """An HTTP request: the path and the query as sent, percent-encoded."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    base64: bool = False

    @property
    def raw_query(self) -> str:
        """The query as it stands in a URL."""
        return "&".join(f"{name}={value}" for name, value in self.query)

    def with_last_of_each(self) -> Request:
        """The request as a load balancer passes it on that keeps one value of each parameter."""
        return replace(self, query=tuple(dict(self.query).items()))


@dataclass
class Context:
    """The context of an invocation."""

    function_name: str = "api"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:api"
    memory_limit_in_mb: str = "1024"
    aws_request_id: str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    log_group_name: str = "/aws/lambda/api"
    log_stream_name: str = "2026/11/21/[$LATEST]0123456789abcdef"
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform ends the invocation."""
        return 29_000


def _body(request: Request) -> tuple[str | None, bool]:
    if not request.body:
        return None, False
    if request.base64:
        return base64.b64encode(request.body).decode(), True
    return request.body.decode(), False


def _headers(request: Request) -> dict[str, str]:
    return {
        "accept": "*/*",
        "host": HOST,
        "user-agent": AGENT,
        "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e",
        "x-forwarded-for": ADDRESS,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
        **({"content-length": str(len(request.body))} if request.body else {}),
        **request.headers,
    }


def _lists(pairs: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return lists


def rest_api(request: Request) -> Event:
    """API Gateway REST API, proxy integration (payload 1.0)."""
    headers = {name.title(): value for name, value in _headers(request).items()}
    query = tuple((unquote(name), unquote(value)) for name, value in request.query)
    body, is_base64 = _body(request)
    return {
        "resource": "/{proxy+}",
        "path": request.path,
        "httpMethod": request.method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _lists(query) or None,
        "pathParameters": {"proxy": unquote(request.path).lstrip("/")},
        "stageVariables": None,
        "requestContext": {
            "resourceId": "2gxmpl",
            "resourcePath": "/{proxy+}",
            "httpMethod": request.method,
            "extendedRequestId": "JJbxmplHYosFVYQ=",
            "requestTime": "10/Mar/2020:00:03:59 +0000",
            "path": f"/prod{request.path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "prod",
            "domainPrefix": "api",
            "requestTimeEpoch": 1583798639428,
            "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
            "identity": {"sourceIp": ADDRESS, "userAgent": AGENT, "accountId": None, "user": None},
            "domainName": HOST,
            "apiId": "70ixmpl4fl",
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }


def http_api(request: Request) -> Event:
    """API Gateway HTTP API, stage `$default` (payload 2.0)."""
    return _payload_2(request, unquote(request.path)) | {"routeKey": "$default"}


def function_url(request: Request) -> Event:
    """Lambda Function URL, open to everyone."""
    event = _payload_2(request, request.path)
    event["requestContext"] |= {"accountId": "anonymous", "authentication": None}
    return event | {"pathParameters": None, "stageVariables": None}


def _payload_2(request: Request, path: str) -> Event:
    body, is_base64 = _body(request)
    query = {
        name: ",".join(unquote(value) for value in values) for name, values in _lists(request.query).items()
    }
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.raw_query,
        "headers": _headers(request),
        **({"queryStringParameters": query} if query else {}),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "r3pmxmplak",
            "domainName": HOST,
            "domainPrefix": "api",
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": ADDRESS,
                "userAgent": AGENT,
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "10/Mar/2020:05:16:23 +0000",
            "timeEpoch": 1583817383220,
        },
        **({} if body is None else {"body": body}),
        "isBase64Encoded": is_base64,
    }


def load_balancer(request: Request) -> Event:
    """Application Load Balancer, as it is by default: of a repeated parameter it passes on the last."""
    return _load_balancer(request) | {
        "queryStringParameters": dict(request.query),
        "headers": _headers(request),
    }


def load_balancer_with_multiple_values(request: Request) -> Event:
    """Application Load Balancer whose target group has multi-value headers turned on."""
    return _load_balancer(request) | {
        "multiValueQueryStringParameters": _lists(request.query),
        "multiValueHeaders": {name: [value] for name, value in _headers(request).items()},
    }


def _load_balancer(request: Request) -> Event:
    body, is_base64 = _body(request)
    arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/api/6d0ecf831eec9f09"
    return {
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": request.method,
        "path": request.path,
        "body": body or "",
        "isBase64Encoded": is_base64,
    }


SHAPES: dict[str, Callable[[Request], Event]] = {
    "rest-api": rest_api,
    "http-api": http_api,
    "function-url": function_url,
    "load-balancer": load_balancer,
    "load-balancer-multi-value": load_balancer_with_multiple_values,
}
