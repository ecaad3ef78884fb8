"""Parameters of an experiment, read from a recipe file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from palate.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def read(kind: type[Model], experiment: str, parameters: Mapping[str, Any]) -> Model:
    """The parameters as `kind`; ConfigError names the experiment, the field and the problem."""
    try:
        return kind.model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "parameters"
        raise ConfigError(f"parameters of {experiment}: field '{field}': {first['msg']}") from None
