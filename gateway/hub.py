"""The newest cursor of each project that somebody looks at, and the newest heads of its files: in memory, bounded.

Everything here follows from what storage commits (`Storage.listen`) and can be forgotten at any time.
"""

from storage import Committed, FileHead, ProjectHead, Storage

_PROJECTS = 4096
_FILES_PER_PROJECT = 16_384
_QUESTIONS_BYTES = 4 * 2**20


class KnownFile:
    """A file's newest head, and the answer made of it for those who have it already (see `gateway.unchanged`)."""

    __slots__ = ("head", "not_modified")

    def __init__(self, head: FileHead) -> None:
        self.head = head
        self.not_modified: tuple[bytes, list[tuple[bytes, bytes]]] | None = None


class WatchedProject:
    """Where a project stands."""

    __slots__ = ("_question_bytes", "cursor", "files", "head", "unchanged_questions")

    def __init__(self) -> None:
        self.head: ProjectHead | None = None
        self.cursor = ""
        self.files: dict[str, KnownFile] = {}
        self.unchanged_questions: dict[bytes, bytes] = {}
        """Bodies of status questions to which "nothing changed" is the answer at this cursor, and that answer."""
        self._question_bytes = 0

    def advance(self, head: ProjectHead) -> None:
        """Take a head, unless it is older than the known one."""
        if self.head is None or self.head.epoch != head.epoch or self.head.sequence < head.sequence:
            self.head = head
            self.cursor = f"{head.epoch}.{head.sequence}"
            self.unchanged_questions.clear()
            self._question_bytes = 0

    def remember_file(self, head: FileHead) -> None:
        known = self.files.get(head.path)
        if known is not None and known.head.sequence >= head.sequence:
            return
        if known is None and len(self.files) >= _FILES_PER_PROJECT:
            del self.files[next(iter(self.files))]
        self.files[head.path] = KnownFile(head)

    def remember_unchanged(self, question: bytes, answer: bytes) -> None:
        """Remember that `question` is answered by `answer` as long as nothing changes."""
        if self._question_bytes + len(question) <= _QUESTIONS_BYTES:
            self._question_bytes += len(question) + len(answer)
            self.unchanged_questions[question] = answer


class Hub:
    """Follows the commits of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._projects: dict[str, WatchedProject] = {}
        storage.listen(self._committed)

    def known_project(self, name: str) -> WatchedProject | None:
        """The project, if it is in memory."""
        return self._projects.get(name)

    def _committed(self, batch: tuple[Committed, ...]) -> None:
        for committed in batch:
            project = self._projects.get(committed.project.name)
            if project is not None:
                project.advance(committed.project)
                if committed.head.path in project.files:
                    project.remember_file(committed.head)

    async def project(self, name: str) -> WatchedProject | None:
        """The project, read from storage if need be; None if it does not exist."""
        watched = self._projects.get(name)
        if watched is not None and watched.head is not None:
            return watched
        # Watched before it is read: a commit between the read and the registration would go unheard.
        watched = self._watch(name)
        head = await self._storage.project_head(name)
        if head is not None:
            watched.advance(head)
        if watched.head is None:
            self._projects.pop(name, None)
            return None
        return watched

    def _watch(self, name: str) -> WatchedProject:
        watched = self._projects.get(name)
        if watched is None:
            if len(self._projects) >= _PROJECTS:
                del self._projects[next(iter(self._projects))]
            watched = self._projects[name] = WatchedProject()
        return watched

    async def file(self, project: WatchedProject, name: str, path: str) -> FileHead | None:
        """The newest head of a file of the project `name`; None if it never existed."""
        known = project.files.get(path)
        if known is not None:
            return known.head
        before = project.head
        head = await self._storage.file_head(name, path)
        if head is not None and project.head is before:  # else a commit came between, which this read may lack
            project.remember_file(head)
        return head

    async def files(self, project: WatchedProject, name: str, paths: list[str]) -> dict[str, FileHead]:
        """The newest heads of those of `paths` that ever existed, as of one moment at or after the call."""
        found = {path: known.head for path in paths if (known := project.files.get(path)) is not None}
        missing = [path for path in paths if path not in found]
        if missing:
            before = project.head
            answer = await self._storage.file_heads(name, missing if len(missing) < len(paths) else paths)
            heads = [] if answer is None else answer[1]
            if project.head is before:
                for head in heads:
                    project.remember_file(head)
            elif len(missing) < len(paths):  # two moments were mixed: ask for all at one
                return await self._read_files(name, paths)
            found.update({head.path: head for head in heads})
        return found

    async def _read_files(self, name: str, paths: list[str]) -> dict[str, FileHead]:
        answer = await self._storage.file_heads(name, paths)
        return {} if answer is None else {head.path: head for head in answer[1]}
