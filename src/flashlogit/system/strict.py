"""JSON of saved files as pydantic models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parser_of(kind: type[AnyModel]) -> Callable[[str], AnyModel]:
    """Return what makes an instance of a model from JSON text, and raises ValueError with the first thing wrong."""

    def parse(text: str) -> AnyModel:
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    return parse


def first_problem(error: ValidationError) -> str:
    """Return the first thing that is wrong, and where it stands."""
    detail = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:40] for part in detail["loc"])
    return f"{place}: {detail['msg']}" if place else detail["msg"]
