"""The commands for people on the files of a gateway: `ls`, `cat`, `put`, `rm`, `mv`, `restore`, `status`, `watch`,
`pull`, `push`, `live`, `history`, `log`. Human output by default, with `--json` one value, or one a line where many
come.

A command is a coroutine that is given what it works on, and whether it is to print JSON; `on_project` and `in_folder`
add the options that say where that is.
"""

import asyncio
import contextlib
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from msgspec import Struct

from gateway.cli.options import Json, Token, with_options

if TYPE_CHECKING:
    from gateway.client import Project
    from gateway.client.folder.files import Folder, FolderState
    from gateway.client.folder.sync import Difference, FolderSync, Outcome, Progress
    from gateway.wire.changes import FeedEntry

T = TypeVar("T")

FilePath = Annotated[str, typer.Argument(help="The path of a file at the gateway.")]
Directory = Annotated[Path, typer.Argument(help="The folder.", file_okay=False, metavar="DIR")]

_JOINERS = "\u200c\u200d"
"""They are a part of words in some languages, and of emoji."""
_MARKS = {"same": " ", "new": "A", "edited": "M", "deleted": "D"}


class Target(Struct, frozen=True):
    """The options of every command: where the project is, and how to print."""

    url: Annotated[str | None, typer.Option(help="URL of the gateway: http://host:8000.", envvar="GATEWAY_URL")] = None
    project: Annotated[str | None, typer.Option(help="The project.", envvar="GATEWAY_PROJECT")] = None
    token: Token = None
    json: Json = False

    def run(self, work: Callable[["Project"], Awaitable[T]]) -> T:
        """Do it with the project; what the gateway refuses is said in one line."""
        from gateway.client import GatewayClient, GatewayError

        url, project = self.url, self.project
        if not url or not project:
            raise typer.BadParameter("say where: --url and --project, or GATEWAY_URL and GATEWAY_PROJECT")

        async def main() -> T:
            async with GatewayClient(url, token=self.token) as client:
                return await work(client.project(project))

        try:
            return asyncio.run(main())
        except GatewayError as error:
            _fail(str(error))


_GIVEN = 2
"""So many parameters of a command are none of its options: what it works on, and whether it prints JSON."""


def on_project(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A command on a project: `work(files, json, …)`."""

    def run(target: Target, arguments: dict[str, Any]) -> None:
        target.run(lambda files: work(files, target.json, **arguments))

    return with_options(Target, work, run, given=_GIVEN)


def in_folder(
    doing: str, show: Callable[[T, bool], None], *, saved: bool = True
) -> Callable[[Callable[..., Coroutine[Any, Any, T]]], Callable[..., None]]:
    """A command on a folder and its project: `work(sync, json, directory, …)`. What comes of it is shown at the end,
    when no progress is shown any more.

    Args:
        doing: what the progress says.
        saved: whether the folder keeps what both sides have then.
    """

    def make(work: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., None]:
        def run(target: Target, arguments: dict[str, Any]) -> None:
            result = _run_in_folder(
                target, arguments["directory"], doing, lambda sync: work(sync, target.json, **arguments), saved
            )
            show(result, target.json)

        return with_options(Target, work, run, given=_GIVEN)

    return make


def add_to(main: typer.Typer) -> None:
    """Add the commands."""
    for command in (ls, cat, put, rm, mv, restore, status, watch, pull, push, live, history, log):
        main.command()(command)


@on_project
async def ls(
    files: "Project",
    json: bool,
    prefix: Annotated[str, typer.Argument(help="Only paths with this prefix.")] = "",
    deleted: Annotated[bool, typer.Option("--deleted", help="List deleted files.")] = False,
) -> None:
    """List the files: version, time, stored bytes, path. With --deleted: version, time, who deleted the file, path."""
    if deleted:
        gone = await files.all_deleted(prefix)
        if json:
            print_json(gone)
        else:
            print_rows([(str(each.version), each.last_modified, each.author or "", each.path) for each in gone])
        return
    entries = await files.all_files(prefix)
    if json:
        print_json(entries)
    else:
        print_rows([(str(each.version), each.last_modified, str(each.size), each.path) for each in entries])


@on_project
async def cat(
    files: "Project",
    json: bool,
    path: FilePath,
    version: Annotated[int | None, typer.Option(help="Read the file at this version.")] = None,
) -> None:
    """Print the text of a file."""
    text = await files.read_text(path, at_version=version)
    if json:
        print_json({"path": path, "tag": text.tag, "text": text.value})
    else:
        sys.stdout.buffer.write(text.value.encode())


@on_project
async def put(
    files: "Project",
    json: bool,
    file: Annotated[Path, typer.Argument(help="The file to upload; - for stdin.", allow_dash=True)],
    path: Annotated[str | None, typer.Argument(help="The path at the gateway (default: the name of the file).")] = None,
    base: Annotated[
        int | None, typer.Option(help="The version that the text was made of; 0: there is no such file.", min=0)
    ] = None,
) -> None:
    """Upload a local file (or stdin) as a minimal edit. With --base, what others wrote since that version stays."""
    if path is None and str(file) == "-":
        raise typer.BadParameter("text from stdin needs a path")
    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode()
    except UnicodeDecodeError as fault:
        _fail(f"{file} is not UTF-8 text (byte {fault.start})")
    except OSError as fault:
        _fail(f"{file}: {fault.strerror}")
    receipt = (await files.put_text(path or file.name, text, base_version=base)).value
    if json:
        print_json(receipt)
    else:
        merged = ", merged" if receipt.merged is True else ""
        _echo(f"{receipt.path}: version {receipt.version}{merged}{'' if receipt.changed else ', unchanged'}")


@on_project
async def rm(
    files: "Project",
    json: bool,
    paths: Annotated[list[str], typer.Argument(help="The files.", metavar="PATH...")],
) -> None:
    """Delete files. Their history stays, and a restore brings them back."""
    for path in paths:
        await files.delete(path)
        if not json:
            _echo(f"{path}: deleted")
    if json:
        print_json({"deleted": paths})


@on_project
async def mv(
    files: "Project",
    json: bool,
    source: Annotated[str, typer.Argument(help="The present path.", metavar="FROM")],
    target: Annotated[str, typer.Argument(help="The new path.", metavar="TO")],
) -> None:
    """Rename or move a file."""
    receipt = (await files.move(source, target)).value
    if json:
        print_json(receipt)
    else:
        _echo(f"{source} is {receipt.path} now, version {receipt.version}")


@on_project
async def restore(
    files: "Project",
    json: bool,
    path: FilePath,
    version: Annotated[
        int | None, typer.Option(help="The version (default for a deleted file: its last version).", min=1)
    ] = None,
) -> None:
    """Restore a file to an earlier version, or restore a deleted file."""
    wanted = version or await _last_before_deletion(files, path)
    receipt = (await files.restore(path, wanted)).value
    if json:
        print_json(receipt)
    else:
        unchanged = "" if receipt.changed else ", unchanged"
        _echo(f"{receipt.path}: version {receipt.version}, as it was at version {wanted}{unchanged}")


async def _last_before_deletion(files: "Project", path: str) -> int:
    newest, *before = (await files.history(path, limit=2)).versions
    if not newest.deleted:
        _fail(f"{path} is not deleted: say which --version")
    if not before:
        _fail(f"{path}: what it was is not kept any more")
    return before[0].version


@on_project
async def watch(
    files: "Project",
    json: bool,
    prefix: Annotated[str, typer.Argument(help="Only paths with this prefix.")] = "",
) -> None:
    """Print changes as they happen, until interrupted."""
    with contextlib.suppress(asyncio.CancelledError):  # which is how an interrupt comes
        await _watch(files, json, prefix)


async def _watch(files: "Project", json: bool, prefix: str) -> None:
    from gateway.client import PollSettings
    from gateway.wire.changes import FileFeedEntry

    listing = (await files.list_files(limit=1)).value
    assert listing is not None
    settings = PollSettings.unattended()
    async for answer in files.follow(listing.cursor, kinds=["file"], prefix=prefix, settings=settings):
        for change in answer.changes:
            if json:
                print_json(change, indent=0)
            elif isinstance(change, FileFeedEntry):
                _echo(f"{change.last_modified}  {change.change_type:8}  {change.version}  {change.path}")
            sys.stdout.flush()


@on_project
async def history(
    files: "Project",
    json: bool,
    path: FilePath,
    limit: Annotated[int, typer.Option(help="Maximum number of entries, newest first.", min=1, max=1000)] = 20,
) -> None:
    """List the versions of a file: version, time, stored bytes, author."""
    versions = (await files.history(path, limit=limit)).versions
    if json:
        print_json(versions)
        return
    print_rows(
        [
            (
                str(each.version),
                each.last_modified,
                str(each.size),
                each.author or "",
                "deleted" if each.deleted else "",
            )
            for each in versions
        ]
    )


@on_project
async def log(
    files: "Project",
    json: bool,
    prefix: Annotated[str, typer.Argument(help="Only files with this path prefix.")] = "",
    since: Annotated[str | None, typer.Option(help="A cursor; show changes after it (default: everything).")] = None,
) -> None:
    """Print text diffs and turns since a cursor, with authors, and finally the next cursor.

    With --json one entry a line, and the cursor in the last one.
    """
    more = True
    while more:
        answer = await files.changes_as_text(since, prefix=prefix)
        if answer.reset is True and not json:
            _echo("the cursor is of another life of the project: this is all that there is")
        for entry in answer.changes:
            if json:
                print_json(entry, indent=0)
            else:
                _print_entry(entry)
        since, more = answer.cursor, answer.more
    if json:
        print_json({"cursor": since}, indent=0)
    else:
        _echo(f"cursor {since}")


def _print_entry(entry: "FeedEntry") -> None:
    """A file with what changed, or a turn."""
    from gateway.wire.changes import TurnFeedEntry

    if isinstance(entry, TurnFeedEntry):
        prompt = entry.prompt if isinstance(entry.prompt, str) else ""
        _echo(f"turn {entry.turn_id} {entry.status}: {prompt.partition(chr(10))[0]}")
        return
    authors = ", ".join(entry.authors or ()) or "somebody"
    known = "?" if entry.from_version is None else entry.from_version
    _echo(f"{entry.path} {entry.change_type} by {authors}, version {known} to {entry.version}")
    if entry.diff is None:
        _echo("  no difference: it is too long, or no text")
    for line in str(entry.diff or "").split("\n")[:-1]:
        typer.echo("\t".join(map(printable, line.split("\t"))))


def _show_differences(differences: Sequence["Difference"], json: bool) -> None:
    if json:
        print_json(differences)
    for each in () if json else differences:
        _echo(f"{_MARKS[each.here]}{_MARKS[each.there]} {each.path}")


@in_folder("Looking", _show_differences, saved=False)
async def status(sync: "FolderSync", json: bool, directory: Directory = Path(".")) -> Sequence["Difference"]:
    """Show differences (like `git status --short`): A new, M modified, D deleted; local, then remote."""
    return await sync.differences()


class _Moved(Struct, frozen=True):
    """What became of each file, and why it could not go on."""

    outcomes: "list[Outcome]"
    fault: str | None = None


async def _moved(move: Callable[[], Awaitable["list[Outcome]"]]) -> _Moved:
    from gateway.client.folder.sync import Stopped

    try:
        return _Moved(await move())
    except Stopped as stopped:
        return _Moved(stopped.outcomes, str(stopped.reason))


def _said(outcome: "Outcome") -> str:
    return f"{outcome.action}: {outcome.path}{f' ({outcome.detail})' if outcome.detail else ''}"


def _show_outcomes(moved: _Moved, json: bool) -> None:
    from gateway.client.folder.sync import conflicts

    if json:
        print_json(moved.outcomes)
    for each in () if json else moved.outcomes:
        _echo(_said(each))
    if moved.fault is not None:
        _fail(moved.fault)
    if not moved.outcomes and not json:
        typer.echo("up to date")
    raise typer.Exit(1 if conflicts(moved.outcomes) else 0)


@in_folder("Pulling", _show_outcomes)
async def pull(sync: "FolderSync", json: bool, directory: Directory) -> _Moved:
    """Download changes of the project into a folder. Local edits are never overwritten.

    Files that .gitignore names are left alone. What was pulled is kept in DIR/.yjs-gateway. Exits with 1 if there is a
    conflict.
    """
    return await _moved(sync.pull)


@in_folder("Pushing", _show_outcomes)
async def push(sync: "FolderSync", json: bool, directory: Directory) -> _Moved:
    """Upload changes of a folder to the project, merged with changes of others.

    Files that .gitignore names, links and what is not UTF-8 text are left out. Exits with 1 if there is a conflict.
    """
    if not directory.is_dir():
        _fail(f"{directory} is not a folder")
    return await _moved(sync.push)


def _run_live(target: Target, arguments: dict[str, Any]) -> None:
    directory: Path = arguments["directory"]
    with _opened(target, directory) as opened:
        if not opened.target.url or not opened.target.project:
            opened.target.run(_nothing)  # says what is missing
        with _locked(opened.folder):
            opened.folder.save_state(opened.state)
            opened.folder.drop_leftovers()
            opened.target.run(lambda files: _live(files, opened, directory))


async def _nothing(files: "Project") -> None: ...


async def _live(files: "Project", opened: "_Opened", directory: Path) -> None:
    import signal

    from gateway.client.folder.live import LiveFolder

    task = asyncio.current_task()
    assert task is not None
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def tell(outcome: "Outcome") -> None:
        if opened.target.json:
            print_json(outcome, indent=0)
        else:
            _echo(_said(outcome))
        sys.stdout.flush()

    def ready(count: int) -> None:
        if opened.target.json:
            print_json({"live": str(directory), "files": count}, indent=0)
        else:
            _echo(f"live: {directory}, {count} file{'' if count == 1 else 's'}")
        sys.stdout.flush()

    with contextlib.suppress(asyncio.CancelledError):  # which is how an interrupt comes
        await LiveFolder(opened.folder, files, opened.state, tell, ready).run()


def _keep_equal(directory: Directory) -> None:
    """Keep a folder and the project equal in both directions, until interrupted.

    What is saved in the folder is merged into the project, what changes there is written into the folder. Files that
    .gitignore names, links and what is not UTF-8 text are left out. Prints what became of each file.
    """


live = with_options(Target, _keep_equal, _run_live, given=0)
live.__name__ = "live"


class _Opened(Struct, frozen=True):
    """A folder, what is known of it, and the options with the gateway and the project that it belongs to."""

    folder: "Folder"
    state: "FolderState"
    target: Target


@contextlib.contextmanager
def _opened(target: Target, directory: Path) -> Iterator[_Opened]:
    """A folder and what is known of it; where the folder belongs is known after the first time."""
    import msgspec

    from gateway.client.folder.files import Folder, FolderState

    folder = Folder(directory)
    try:
        kept = folder.load_state()
    except msgspec.DecodeError as fault:
        _fail(f"{directory}/.yjs-gateway cannot be read ({fault}); without it, all files are compared again")
    url, project = target.url or (kept.url if kept else None), target.project or (kept.project if kept else None)
    if kept is not None and (kept.url, kept.project) != (url, project):
        _fail(
            f"{directory} belongs to the project {kept.project} of {kept.url};"
            f" delete {directory}/.yjs-gateway to use it with another one"
        )
    state = kept or FolderState(url or "", project or "")
    try:
        yield _Opened(folder, state, msgspec.structs.replace(target, url=url, project=project))
    except OSError as fault:
        _fail(f"{fault.filename or directory}: {fault.strerror}")


@contextlib.contextmanager
def _locked(folder: "Folder") -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder.locked())
        except BlockingIOError:
            _fail(f"another process is at work on {folder.root}")
        yield


def _run_in_folder(
    target: Target, directory: Path, doing: str, work: Callable[["FolderSync"], Awaitable[T]], saved: bool
) -> T:
    """Do it with a folder and its project."""
    import msgspec

    from gateway.client.folder.sync import FolderSync

    with _opened(target, directory) as opened:
        folder, state = opened.folder, opened.state
        before = msgspec.json.encode(state)
        if saved and state.unanswered:
            _fail(f"`live` was killed while it was sending a file; `yjs-gateway live {directory}` takes it up again")

        async def with_folder(files: "Project") -> T:
            with _progress(doing) as progress:
                try:
                    return await work(FolderSync(folder, files, state, progress))
                finally:
                    if saved and msgspec.json.encode(state) != before:  # a first time that found nothing ties nothing
                        folder.save_state(state)

        with _locked(folder) if saved and folder.has_state() else contextlib.nullcontext():
            return opened.target.run(with_folder)


@contextlib.contextmanager
def _progress(doing: str) -> Iterator["Progress"]:
    """A bar on the terminal, for what takes its time."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(value: Any, indent: int = 2) -> None:
    """A value of the wire as JSON."""
    import msgspec

    encoded = msgspec.json.encode(value)
    sys.stdout.buffer.write((msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n")


def _echo(line: str, *, err: bool = False) -> None:
    """Print a line with names of others in it: what would steer a terminal, or turn the order of its characters, is
    printed as an escape."""
    typer.echo(printable(line), err=err)


def printable(text: str) -> str:
    """Return a text without what steers a terminal."""
    return "".join(f"\\u{ord(each):04x}" if _steers(each) else each for each in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs") and character not in _JOINERS


def print_rows(rows: Sequence[Sequence[str]], numbers: Sequence[int] = (0, 2)) -> None:
    """Columns; some are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in numbers else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        _echo("  ".join(cells).rstrip())


def _fail(fault: str) -> NoReturn:
    _echo(f"error: {fault}", err=True)
    raise typer.Exit(1)
