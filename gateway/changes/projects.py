"""The list of projects that a grant lets read."""

from collections.abc import AsyncIterator

from gateway.access.grants import Grant, View
from gateway.pace import with_turns
from gateway.wire.projects import ProjectEntry, ProjectListing
from gateway.wire.values import rfc3339
from storage import Storage, StoredProject


class ProjectList:
    """The projects of a storage, as a grant sees them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def page(self, grant: Grant, after: str, limit: int) -> ProjectListing:
        """Return up to `limit` projects, ordered by id, after the id `after`."""
        entries: list[ProjectEntry] = []
        async for project in self._readable(grant, after, limit + 1):
            if len(entries) == limit:
                return ProjectListing(entries, entries[-1].id)
            entries.append(_entry(project, grant.view(project.head.name)))
        return ProjectListing(entries, None)

    async def _readable(self, grant: Grant, after: str, limit: int) -> AsyncIterator[StoredProject]:
        while page := await self._together(grant, after, limit):
            async for project in with_turns(page):
                if (view := grant.view(project.head.name)) is not None and "read" in view.scopes:
                    yield project
            after = page[-1].head.name

    async def _together(self, grant: Grant, after: str, limit: int) -> list[StoredProject]:
        """Return the next projects that some pattern of the grant names."""
        if grant.admin:
            return await self._storage.list_projects(after=after, limit=limit)
        names = [pattern for pattern in grant.projects if not pattern.endswith("*") and pattern > after]
        found: dict[str, StoredProject] = {}
        if names:
            for each in await self._storage.list_projects(names=names, after=after, limit=limit):
                found[each.head.name] = each
        for prefix in _prefixes(grant):
            for each in await self._storage.list_projects(prefix=prefix, after=after, limit=limit):
                found[each.head.name] = each
        return [found[name] for name in sorted(found)[:limit]]


def _prefixes(grant: Grant) -> list[str]:
    """Return the prefixes that a grant names, without those within others."""
    prefixes: list[str] = []
    for prefix in sorted(pattern[:-1] for pattern in grant.projects if pattern.endswith("*")):
        if not prefixes or not prefix.startswith(prefixes[-1]):
            prefixes.append(prefix)
    return prefixes


def _entry(project: StoredProject, view: View | None) -> ProjectEntry:
    head, whole = project.head, view is not None and view.paths is None
    return ProjectEntry(
        head.name,
        head.cursor,
        rfc3339(head.last_modified),
        project.files if whole else None,
        project.size if whole else None,
    )
