"""Characters in messages and tables."""

from __future__ import annotations

import unicodedata


def named(character: str) -> str:
    """Return ``é (U+00E9)``, or only the code of a character that cannot be printed alone."""
    code = f"U+{ord(character):04X}"
    # A combining mark (M.) would be drawn over the character before it.
    visible = character.isprintable() and not unicodedata.category(character).startswith("M")
    return f"{character} ({code})" if visible else code
