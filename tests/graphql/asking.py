"""Asking a gateway by GraphQL: over HTTP, and as server-sent events."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

PATH = "/api/graphql"
RESULT = "application/graphql-response+json"


class ExpiredBefore(Exception):
    """The credential did not count any more when the request came."""


class Asker(httpx.Client):
    """A client of `/api/graphql`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        super().__init__(base_url=url, headers=headers, timeout=70, verify=False)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole result."""
        answer = self.post(PATH, json={"query": query, "variables": variables}, headers={"Accept": RESULT})
        return dict(answer.json())

    def data(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a result without errors."""
        result = self.ask(query, **variables)
        assert "errors" not in result, result
        return dict(result["data"])

    def error(self, query: str, **variables: Any) -> str:
        """The code of the only error of a result."""
        (error,) = self.ask(query, **variables)["errors"]
        return str(error["extensions"]["code"])

    @contextmanager
    def follow(self, query: str, **variables: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """The results of a subscription as they come; after the last of them the iterator ends."""
        question = {"query": query, "variables": variables}
        with self.stream("POST", PATH, json=question, headers={"Accept": "text/event-stream"}) as answer:
            if answer.status_code == 401:
                raise ExpiredBefore
            assert answer.status_code == 200, answer.read()
            yield _results(answer)


def _results(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    event = ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
            if event == "complete":
                return
        elif name == "data" and event == "next":
            yield json.loads(value)
