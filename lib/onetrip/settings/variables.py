"""Every variable that can be set from outside: its names, its type and bounds, what it does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PlainSerializer, PlainValidator, SecretStr
from pydantic_settings import SettingsConfigDict

from ..aws.secrets import SecretReference
from ..url.database_url import DatabaseURL
from .checked import CheckedSettings, setting


def _parse_url(value: object) -> DatabaseURL:
    return value if isinstance(value, DatabaseURL) else DatabaseURL.parse(str(value))


# Plain validator and serializer: pydantic would take the value object apart, password and all.
URLField = Annotated[DatabaseURL, PlainValidator(_parse_url), PlainSerializer(str)]


class Variables(CheckedSettings):
    """The variables, in the order in which they are documented."""

    # Only `Settings` is ever made, so a validator of its own for this class would be built in vain.
    model_config = SettingsConfigDict(defer_build=True)

    # Before the URLs, whose check depends on it.
    database_tls: Literal["require", "verify-full"] | None = setting(
        "DATABASE_TLS",
        says="require or verify-full: encrypt, or check certificate and host name too. "
        "Default: require, but for a server on this machine what the URL says.",
    )
    database_url: URLField | None = setting(
        "DATABASE_URL",
        "POSTGRES_URL",
        "NEON_POOLED_DATABASE_URL",
        "DB_URL",
        says="postgresql://user:password@host/database: the server, on Neon the pooled host. Secret. "
        "This, the next or a secret is required.",
    )
    database_url_unpooled: URLField | None = setting(
        "DATABASE_URL_UNPOOLED",
        "POSTGRES_URL_NON_POOLING",
        "NEON_DATABASE_URL",
        "DIRECT_URL",
        says="postgresql://user:password@host/database: the same without a pooler, for migrations. Secret. "
        "Default: derived from the one above.",
    )
    migration_database_url: URLField | None = setting(
        "MIGRATION_DATABASE_URL",
        says="postgresql://user:password@host/database: the tables' owner, for migrations alone. Secret. "
        "Default: the one above.",
    )
    db_secret_arn: str | None = setting(
        "DB_SECRET_ARN",
        says="the ARN or name of a secret in Secrets Manager: read for the URL, which it holds as text or as "
        "AWS's JSON for databases; again when the server refuses its password. Default: none.",
        pattern=r"^[A-Za-z0-9_/+=.@:-]+$",
        max_length=2048,
    )
    database_url_parameter: str | None = setting(
        "DATABASE_URL_PARAMETER",
        says="the ARN or name of a parameter in SSM Parameter Store: the same from there. Default: none.",
        pattern=r"^[A-Za-z0-9_./:-]+$",
        max_length=2048,
        validate_default=True,
    )
    database_prefix: str | None = setting(
        "DATABASE_PREFIX",
        says="letters, digits and underscores: the prefix that an integration gave its variables, such as "
        "STORAGE for STORAGE_DATABASE_URL; the URLs are read under it first. Default: none.",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        max_length=100,
    )
    database_replica_url: URLField | None = setting(
        "DATABASE_REPLICA_URL",
        says="postgresql://user:password@host/database: a read replica for reading sessions. Secret. "
        "Default: none; while it is down the primary is read.",
    )
    database_mode: Literal["pooled", "direct"] | None = setting(
        "DATABASE_MODE",
        says="pooled or direct: which of the two URLs serves requests. "
        "Default: pooled on Vercel and Lambda, else direct.",
    )
    database_pool: Literal["tiny", "null", "server"] | None = setting(
        "DATABASE_POOL",
        says="tiny, null or server: keep 2 connections, none, or 5 and at most 10. "
        "Default: tiny on Vercel and Lambda, else server.",
    )
    pool_size: int | None = setting(
        "DATABASE_POOL_SIZE",
        "DB_POOL_SIZE",
        says="a whole number from 1 to 100: connections that one process keeps. Default: the pool's.",
        ge=1,
        le=100,
    )
    pool_max_overflow: int | None = setting(
        "DATABASE_MAX_OVERFLOW",
        "DB_MAX_OVERFLOW",
        says="a whole number from 0 to 100: connections beyond the pool's size. Default: the pool's.",
        ge=0,
        le=100,
    )
    pool_timeout_seconds: float | None = setting(
        "DATABASE_POOL_TIMEOUT",
        "DB_POOL_TIMEOUT",
        says="a number from 1 to 300: seconds to wait for a free connection. Default: the pool's.",
        ge=1,
        le=300,
        allow_inf_nan=False,
    )
    pool_recycle_seconds: float | None = setting(
        "DATABASE_POOL_RECYCLE",
        "DB_POOL_RECYCLE",
        says="a number from 30 to 86400: seconds after which a connection is replaced. Default: the pool's.",
        ge=30,
        le=86_400,
        allow_inf_nan=False,
    )
    database_echo: bool = setting(
        "DATABASE_ECHO",
        "DB_ECHO",
        default=False,
        says="true or false: log every statement with its data; refused in production. Default: false.",
    )
    database_single_flight: Literal["on", "off"] = setting(
        "DATABASE_SINGLE_FLIGHT",
        default="on",
        says="on or off: send BEGIN, timeouts and the first statement in one round trip, "
        "or as the plain driver does. Default: on.",
    )
    database_shared_reads: Literal["on", "off"] = setting(
        "DATABASE_SHARED_READS",
        default="on",
        says="on or off: let the plain queries of reading sessions share connections, where one process "
        "serves several requests at once. Default: on.",
    )
    request_timeout_seconds: float = setting(
        "REQUEST_TIMEOUT_SECONDS",
        default=25.0,
        says="a number from 1 to 900: seconds in which every request is answered; "
        "fewer where the platform leaves fewer. Default: 25.",
        ge=1,
        le=900,
        allow_inf_nan=False,
    )
    root_path: str | None = setting(
        "ROOT_PATH",
        says="a path such as /v1, without a slash at its end: the prefix that clients see in front of the "
        "application's paths, where a proxy adds one. Default: what the platform shows, such as a stage.",
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        max_length=200,
    )
    slow_query_seconds: float = setting(
        "SLOW_QUERY_SECONDS",
        default=1.0,
        says="a number from 0 to 900: seconds from which a statement is logged as slow, without its "
        "data. Default: 1.",
        ge=0,
        le=900,
        allow_inf_nan=False,
    )
    leak_seconds: float = setting(
        "CONNECTION_LEAK_SECONDS",
        default=30.0,
        says="a number from 0 to 86400: seconds from which a connection that is still out is logged, "
        "with the code that checked it out. Default: 30.",
        ge=0,
        le=86_400,
        allow_inf_nan=False,
    )
    ops_token: SecretStr | None = setting(
        "OPS_TOKEN",
        says="16 characters or more: the bearer token that opens operational details in "
        "production; guessable ones are refused outside development. Secret. Default: none.",
        min_length=16,
    )

    @property
    def secret(self) -> SecretReference | None:
        """The secret that holds the URL, if it is kept in AWS."""
        if self.db_secret_arn:
            return SecretReference("DB_SECRET_ARN", "secretsmanager", self.db_secret_arn)
        if self.database_url_parameter:
            return SecretReference("DATABASE_URL_PARAMETER", "ssm", self.database_url_parameter)
        return None
