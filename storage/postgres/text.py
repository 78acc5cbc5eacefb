"""Text encoding for PostgreSQL, whose text holds every character except NUL: NUL is written as two others."""

_ESCAPE = "\x1a"


def to_text(text: str) -> str:
    """Encode a text for storage."""
    if "\0" in text or _ESCAPE in text:
        return text.replace(_ESCAPE, _ESCAPE + "1").replace("\0", _ESCAPE + "0")
    return text


def to_text_or_none(text: str | None) -> str | None:
    return None if text is None else to_text(text)


def from_text(text: str) -> str:
    """Decode a stored text."""
    if _ESCAPE in text:
        return text.replace(_ESCAPE + "0", "\0").replace(_ESCAPE + "1", _ESCAPE)
    return text


def from_text_or_none(text: str | None) -> str | None:
    return None if text is None else from_text(text)
