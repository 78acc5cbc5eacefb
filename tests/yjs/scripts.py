"""Runs the Node.js scripts of this folder: a request as JSON in, a result as JSON out."""

import json
import subprocess
from typing import Any

from tests.support.oracle import FOLDER


class Script:
    """A script of this folder that has been started with its request."""

    def __init__(self, node: str, name: str, **request: Any) -> None:
        self._process = subprocess.Popen(
            [node, name], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request))
        self._process.stdin.close()
        self._process.stdin = None

    def result(self) -> Any:
        """What it comes to; raises what it failed with."""
        output, errors = self._process.communicate()
        assert self._process.returncode == 0, errors
        return json.loads(output)

    def stop(self) -> None:
        """End it, if it runs still."""
        self._process.kill()
        self._process.communicate()
