"""The packages of the extra ``export``, which are imported only when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from slimasr.errors import UserError


def needed(package: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: the package is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise UserError(f"{package} is not installed: pip install 'slimasr[export]'") from None
