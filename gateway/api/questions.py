"""What a request asks for, told from its URL and method before it is routed: what an application is asked about it."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from starlette.routing import compile_path
from starlette.types import Scope

from gateway.access.grants import Need
from gateway.access.sessions import Question
from gateway.api.operation import Operation


class Questions:
    """Returns the question about a request; None if the request needs no credential, or names the file later.

    Args:
        others: what the routes of other interfaces need, by path template, most permissive first. Where the template
            has no `{project}`, the parameter `project` of the query counts.
    """

    def __init__(self, operations: Sequence[Operation], others: Mapping[str, tuple[Need, ...]]) -> None:
        self._operations = [
            (compile_path(each.path)[0], each.method, (*each.may_need, each.scope))
            for each in operations
            if each.scope is not None
        ]
        self._others = [(compile_path(path)[0], actions) for path, actions in others.items()]

    def __call__(self, scope: Scope) -> Question | None:
        path = scope["path"]
        method = "" if scope["type"] == "websocket" else "GET" if scope["method"] == "HEAD" else scope["method"]
        for pattern, of_method, actions in self._operations:
            if method == of_method and (found := pattern.match(path)) is not None:
                named = found.groupdict()
                return Question(named.get("project"), named.get("path"), actions)
        for pattern, actions in self._others:
            if (found := pattern.match(path)) is not None:
                named = found.groupdict()
                return Question(named.get("project", _of_query(scope)), named.get("path"), actions)
        return None


def _of_query(scope: Scope) -> str | None:
    named = parse_qs(scope["query_string"].decode("latin-1")).get("project", [])
    return named[0] if len(named) == 1 else None
