"""The context of a request's resolvers: the caller, what exists for it, and how much it may read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from gateway.access.access import Access
from gateway.access.audit import Audit
from gateway.access.grants import Need, View, is_name
from gateway.graphql.services import Services
from gateway.graphql.sources import Source
from gateway.wire.problems import Forbidden, InvalidPath, InvalidProject, TooComplex
from gateway.wire.values import path_fault, valid_project_id
from storage import Author

T = TypeVar("T")

_MOST_READS = 100
"""How many documents, histories and turns one request may read: each may be as large as the gateway allows."""


class Follower(Protocol):
    """Follows the source of a subscription, for all clients with the same question."""

    is_subscription: bool

    def follow(self, source: Source[T], info: Any) -> AsyncIterator[T]: ...


class Caller:
    """The context of one request. Every root field asks it for the view of its project.

    Args:
        named: the `X-Author` of the request.
        execution: the execution that this context belongs to, where subscriptions are possible.
    """

    def __init__(
        self,
        services: Services,
        access: Access,
        audit: Audit | None = None,
        named: bytes | None = None,
        execution: Follower | None = None,
    ) -> None:
        self.services = services
        self.access = access
        self._audit = audit
        self._named = named
        self._execution = execution
        self.reading = asyncio.Lock()
        """Held while something is read whose size is counted afterwards: fields are resolved at the same time."""
        self._reads = 0
        self._bytes = 0

    def view(self, project: str, need: Need | None) -> View | None:
        """Return what the caller may do in a project; None: the project does not exist for the caller.

        Raises:
            Unauthenticated: the credential is no longer valid.
            InvalidProject
            Forbidden: the caller may do less than `need`.
        """
        self.access.require_valid()
        if not valid_project_id(project):
            raise InvalidProject
        view = self.access.view(project)
        if view is not None and need is not None and not view.may(need):
            refusal = Forbidden(view.missing(need))
            if self._audit is not None:
                self._audit.note_refusal(self.access, project, f"graphql: {refusal.detail}")
            raise refusal
        return view

    def author(self, view: View) -> Author:
        """Return the author of writes: the subject, or whom an application's backend names."""
        text = "" if self._named is None or not view.may("admin") else self._named.decode("utf-8", "replace")
        return Author(text if is_name(text) else self.access.subject, self.access.credential)

    def note(
        self, action: str, project: str, path: str | None, version: int | None = None, detail: str | None = None
    ) -> None:
        """Note an action in the audit, if there is one."""
        if self._audit is not None:
            self._audit.note(action, self.access, project=project, path=path, version=version, detail=detail)

    def begin_read(self) -> None:
        """Count a read of a whole object. Subscriptions are not limited by this count: they read one event at a time.

        Raises:
            TooComplex
        """
        if self._execution is None or not self._execution.is_subscription:
            self._reads += 1
            if self._reads > _MOST_READS:
                raise TooComplex(f"the request reads more than {_MOST_READS} documents, histories and turns")

    def count(self, size: int) -> None:
        """Count the bytes read.

        Raises:
            TooComplex
        """
        if self._execution is None or not self._execution.is_subscription:
            self._bytes += size
            self.require_few_bytes(self._bytes)

    def require_few_bytes(self, size: int) -> None:
        """Raise TooComplex if a request, or an event of a subscription, reads more bytes than it may."""
        if size > self.services.answer_bytes:
            raise TooComplex(f"the request reads more than {self.services.answer_bytes} bytes")

    def follow(self, source: "Source[T]", info: Any) -> AsyncIterator[T]:
        """Return the events of a subscription."""
        assert self._execution is not None
        return self._execution.follow(source, info)


def checked_path(path: str) -> str:
    """Raise InvalidPath unless a file may have this path."""
    fault = path_fault(path)
    if fault is not None:
        raise InvalidPath(path, fault)
    return path
