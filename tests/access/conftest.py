"""A gateway that asks for credentials, and clients with some."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.access.keys import SECRET, raw_token
from tests.support.server import PATIENCE_S, GatewayProcess


def bearer(subject: str = "ann", seconds: float = 600, **grant: Any) -> str:
    """A JWT as an application's backend signs it; `grant`: `projects`, `admin`."""
    claims = {"sub": subject, "exp": time.time() + seconds, "yjs_gateway": grant}
    return raw_token({"alg": "HS256", "typ": "JWT"}, claims, SECRET.encode())


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that asks for credentials and knows the application's key."""
    folder = tmp_path_factory.mktemp("guarded")
    with GatewayProcess(folder / "gateway.db", GATEWAY_AUTH="required", GATEWAY_JWT_KEY=SECRET) as process:
        yield process


@pytest.fixture
def name() -> str:
    """The name of a project of the test's own."""
    return f"project-{uuid.uuid4().hex[:12]}"


class Subject(httpx.Client):
    """A client with a credential, whose base is a project."""

    def __init__(self, gateway: GatewayProcess, project: str, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        super().__init__(base_url=gateway.project(project), headers=headers, timeout=PATIENCE_S, verify=False)

    def write(self, path: str, text: str, **headers: str) -> httpx.Response:
        return self.put(f"/files/{path}", content=text, headers={"Content-Type": "text/plain", **headers})

    def text(self, path: str) -> str:
        answer = self.get(f"/files/{path}", headers={"Accept": "text/plain"})
        assert answer.status_code == 200, answer.text
        return answer.text

    def listed(self, **parameters: str) -> list[str]:
        answer = self.get("/files", params=parameters)
        assert answer.status_code == 200, answer.text
        return [entry["path"] for entry in answer.json()["files"]]

    def changed(self, since: str | None = None, **more: Any) -> dict[str, Any]:
        question = {**({} if since is None else {"since": since}), **more}
        answer = self.post("/files/status", json=question)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def told(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a problem."""
    return answer.status_code, answer.json()["code"]
