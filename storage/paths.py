"""The order of paths: by code point."""


def path_after_prefix(prefix: str) -> str | None:
    """Return the smallest string that sorts after all strings that begin with `prefix`; None if there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index])
        if code < 0x10FFFF:
            return prefix[:index] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None
