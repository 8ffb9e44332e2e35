"""The types of what clients send and get, with their bounds."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, LiteralString

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError
from starlette.convertors import Convertor, register_url_convertor

# As far as the numbers of JSON are exact for every client.
MAX_ID = 2**53 - 1
# PostgreSQL's text takes every character but NUL.
NO_NUL = r"^[^\x00]*$"
# Characters that show nothing, or turn the direction of others; two texts that look the same would differ.
_INVISIBLE = (
    # Fillers, and code points that are no characters.
    r"\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufdd0-\ufdef\ufffe\uffff"
    r"\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff"
)
# Join letters and pictures of some scripts; without others around them they show nothing either.
_JOINERS = r"\u200c\u200d"
_UNSEEN = rf"\x00-\x1f\x7f-\x9f{_INVISIBLE}"
_LINE = rf"^[^{_UNSEEN}]*[^\s{_JOINERS}{_UNSEEN}][^{_UNSEEN}]*$"
_NAME = rf"^[^{_JOINERS}{_UNSEEN}]*[^\s{_JOINERS}{_UNSEEN}][^{_JOINERS}{_UNSEEN}]*$"
# With tabs and line ends.
_LINES = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_INVISIBLE}]*$"
_VISIBLE = "Input should show something, and hold no control or invisible characters"
# The local part is an atom of RFC 5321, with a backslash if need be; the domain has ASCII letters (xn--).
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = rf"^{_LOCAL}(\.{_LOCAL})*@{_LABEL}(\.{_LABEL})+$"
# Sample money: enough to try things, too little to fill another's account.
MAX_OPENING_BALANCE = 1_000_000
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,12})(\.[0-9]{1,2})?")
_DATE_AND_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+")
# Python ends at the years 1 and 9999; the distance leaves room for every zone a session may show them in.
_EARLIEST = datetime(2, 1, 1, tzinfo=UTC)
# For the description: the years in which no zone leads beyond the bounds.
_SAFE_YEARS = r"^(000[3-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-7])-"
_LATEST = datetime(9998, 12, 31, tzinfo=UTC)


def _plain(value: object) -> object:
    """Refuse the other spellings of a number that Python takes: `1.0`, `+1`, `1_000`."""
    if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value):
        raise PydanticCustomError("whole_number", "Input should be a whole number")
    return value


def _written(value: object) -> object:
    """Refuse seconds since 1970, which a wrong field would pass as."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_AND_TIME.fullmatch(value)):
        return value
    raise PydanticCustomError("date_and_time", "Input should be a date and time such as 2030-01-31T12:00:00Z")


def _whole(value: object) -> object:
    """JSON has one kind of number: 1.0 is the whole number 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _decimal(value: object) -> object:
    """Refuse what is no plain decimal: floats, exponents, signs and zeros that say nothing."""
    value = _whole(value)
    if type(value) is int or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        return Decimal(value)
    raise PydanticCustomError("decimal", 'Input should be a whole number, or text such as "12.50"')


def _composed(value: object) -> object:
    """Write each letter in one way: with an accent it may come as one character or as two."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _shaped(pattern: str, message: LiteralString) -> tuple[AfterValidator, Any]:
    """Require a pattern, which the description shows and the error spares its reader."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise PydanticCustomError("text", message)
        return value

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


def _representable(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise PydanticCustomError("date_and_time", "Input should lie between the years 2 and 9998")
    return moment.astimezone(UTC)


def _decimal_schema(smallest: int, largest: int, pattern: str, example: str) -> JsonSchemaValue:
    number = {"type": "integer", "minimum": smallest, "maximum": largest}
    return {"anyOf": [number, {"type": "string", "pattern": pattern, "maxLength": 16}], "examples": [example]}


class RowConvertor(Convertor[str]):
    """An id in a path, as it was sent; never one of the words that stand in its place elsewhere."""

    regex = "(?!(?:me|bulk|complete|statistics)(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


# For paths such as `/{task_id:row}`.
register_url_convertor("row", RowConvertor())

# Text in a URL is read as a number; in JSON it must be a number. The bounds stand before
# the validator: behind it, the description would not tell of them.
PLAIN = BeforeValidator(_plain)
QueryId = Annotated[int, Field(ge=1, le=MAX_ID), PLAIN]
Id = Annotated[QueryId, Path()]
Reference = Annotated[int, Field(strict=True, ge=1, le=MAX_ID, examples=[1]), BeforeValidator(_whole)]
Flag = Annotated[bool, Field(strict=True)]
COMPOSED = BeforeValidator(_composed)
Text = Annotated[str, StringConstraints(pattern=NO_NUL), COMPOSED]
SearchText = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_NUL), COMPOSED]
Username = Annotated[
    str,
    StringConstraints(min_length=3, max_length=50, pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$"),
    Field(examples=["ada"]),
]
NewPassword = Annotated[
    str,
    StringConstraints(min_length=8, max_length=128, pattern=NO_NUL),
    COMPOSED,
    Field(examples=["difference engine"], description="of any characters; common ones are refused"),
]
# Whole numbers or text: with a point, a number of JSON's is a float on its way through most clients.
Balance = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(ge=0, le=MAX_OPENING_BALANCE, decimal_places=2),
    WithJsonSchema(
        _decimal_schema(
            0,
            MAX_OPENING_BALANCE,
            r"^((0|[1-9][0-9]{0,5})(\.[0-9]{1,2})?|1000000(\.0{1,2})?)$",
            "100.00",
        )
    ),
]
Amount = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(gt=0, max_digits=15, decimal_places=2),
    WithJsonSchema(
        _decimal_schema(
            1,
            10**13 - 1,
            r"^([1-9][0-9]{0,12}(\.[0-9]{1,2})?|0\.(0[1-9]|[1-9][0-9]?))$",
            "12.50",
        )
    ),
]
Money = Annotated[
    Decimal,
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,28}\.[0-9]{2}$", "examples": ["12.50"]}),
]
Title = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    COMPOSED,
    *_shaped(_LINE, _VISIBLE),
    Field(examples=["Write the first program"]),
]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50),
    COMPOSED,
    *_shaped(_NAME, _VISIBLE),
    Field(examples=["home"]),
]
Email = Annotated[
    str,
    StringConstraints(max_length=254),
    *_shaped(_EMAIL, "Input should be an email address, in ASCII"),
    Field(examples=["ada@example.com"]),
]
# For a text of several lines, beside its bounds.
LINES = (COMPOSED, *_shaped(_LINES, "Input should hold no control or invisible characters"))
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_written),
    Field(examples=["2030-01-31T12:00:00Z"], json_schema_extra={"pattern": _SAFE_YEARS}),
    AfterValidator(_representable),
]


# Times are shown in UTC, independent of the database's zone.
Moment = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


class Input(BaseModel):
    """The base of request bodies; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """The base of response bodies, read from a table's row; described as it is sent, with every member."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)
