"""npm's Yjs, asked what it makes of updates."""

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "yjs"


class Oracle:
    """A Node.js process that answers with Yjs; see `tests/yjs/oracle.mjs`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "oracle.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def read(self, updates: Sequence[bytes], roots: dict[str, str]) -> dict[str, Any]:
        """The values of `roots` (name → "text", "map", "array" or "xml") after updates, with nothing pending."""
        answer = self._ask(make="read", updates=_encode(updates), roots=roots)
        assert not answer["pending"], "Yjs has something pending"
        json_value: dict[str, Any] = answer["json"]
        return json_value

    def text(self, updates: Sequence[bytes], root: str = "content") -> str:
        """The text of a root after updates."""
        value: str = self.read(updates, {root: "text"})[root]
        return value

    def whole(self, updates: Sequence[bytes]) -> bytes:
        """The document as one update."""
        return base64.b64decode(self._ask(make="read", updates=_encode(updates))["whole"])

    def state_vector(self, updates: Sequence[bytes]) -> bytes:
        return base64.b64decode(self._ask(make="read", updates=_encode(updates))["stateVector"])

    def versions(self, seed: int) -> tuple[bytes, bytes]:
        """Two versions of a document that holds every content that Yjs has, each as a whole."""
        old, new = self._ask(make="versions", seed=seed)["versions"]
        return base64.b64decode(old), base64.b64decode(new)

    def look(self, updates: Sequence[bytes]) -> dict[str, Any]:
        """All that is to be seen of such a document: `seen` as ordered JSON, `json` what Yjs makes of its roots."""
        answer = self._ask(make="look", updates=_encode(updates))
        assert not answer["pending"], "Yjs has something pending"
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _encode(updates: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(update).decode() for update in updates]
