"""Packages that are also verbs: `palate.rank(data)` calls the function of the package `palate.rank`.

Importing a subpackage binds it as an attribute of its parent, which would hide a function of the same name. A
module whose class has `__call__` is both, whichever was imported first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(module: str, function: Callable[..., Any]) -> None:
    """Make calling the module named `module` call `function`."""

    class CallableModule(ModuleType):
        __doc__ = function.__doc__

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    sys.modules[module].__class__ = CallableModule
