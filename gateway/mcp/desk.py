"""An agent's state in a project: its name, and what it has read, so that it can be told what others wrote since."""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping

from gateway.client import GatewayError, Project
from gateway.wire.presence import writer_client, writer_state

_REMEMBERED = 10_000
_READING_S = 30


class Reads:
    """The version of each file, and the cursor, that each agent saw last, in bounded memory. An agent whose entry was
    evicted has to read again."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], int | str] = OrderedDict()

    def version(self, agent: str, project: str, path: str) -> int | None:
        """Return the version of a file that an agent saw last."""
        seen = self._seen.get((agent, project, path))
        return seen if isinstance(seen, int) else None

    def cursor(self, agent: str, project: str) -> str | None:
        """Return the cursor up to which an agent was told of changes in a project."""
        seen = self._seen.get((agent, project, ""))
        return seen if isinstance(seen, str) else None

    def note(self, agent: str, project: str, path: str, seen: int | str) -> None:
        """Note the version of a file, or with an empty path a cursor."""
        self._seen[agent, project, path] = seen
        self._seen.move_to_end((agent, project, path))
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


class Desk:
    """One agent in one project.

    Args:
        agent: identifies the agent among those whose reads are remembered.
        author: the name under which the agent writes.
        texts: the long texts of the agent's message in UTF-8, by the names that stand for them in it.
    """

    def __init__(
        self, project: Project, reads: Reads, agent: str, author: str, texts: Mapping[str, bytes] | None = None
    ) -> None:
        self.project = project
        self.author = author
        self.texts = texts or {}
        self._reads = reads
        self._agent = agent

    def seen(self, path: str) -> int | None:
        """Return the version of a file that the agent saw last."""
        return self._reads.version(self._agent, self.project.name, path)

    def note_seen(self, path: str, version: int) -> None:
        self._reads.note(self._agent, self.project.name, path, version)

    @property
    def cursor(self) -> str | None:
        """The cursor up to which the agent was told of changes."""
        return self._reads.cursor(self._agent, self.project.name)

    def note_cursor(self, cursor: str) -> None:
        self._reads.note(self._agent, self.project.name, "", cursor)

    async def show(self, path: str) -> None:
        """Show the agent in a file that it reads; the gateway shows writers itself. Failures are ignored."""
        project, name = self.project, self.project.name
        with contextlib.suppress(GatewayError):
            client = writer_client(name, self.author)
            answer = await project.put_presence(path, client, writer_state(self.author), ttl=_READING_S)
            subject = next((each.subject for each in answer.value.clients if each.client_id == client), None)
            if subject is not None and subject != self.author:  # the gateway writes under the subject's name
                await project.delete_presence(path, client)
                self.author = subject
                await project.put_presence(path, writer_client(name, subject), writer_state(subject), ttl=_READING_S)
