"""The commands on a folder and its project: `status`, `pull`, `push`, `live`."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from msgspec import Struct

from gateway.cli.options import DryRun, with_options
from gateway.cli.printing import echo, fail, print_json
from gateway.cli.target import GIVEN, Target

if TYPE_CHECKING:
    from gateway.client import Project
    from gateway.client.folder.files import Folder
    from gateway.client.folder.state import FolderState
    from gateway.client.folder.sync import Difference, FolderSync, Outcome, Progress

T = TypeVar("T")

Directory = Annotated[Path, typer.Argument(help="The folder.", file_okay=False, metavar="DIR")]

_MARKS = {"same": " ", "new": "A", "edited": "M", "deleted": "D"}


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

        return with_options(Target, work, run, given=GIVEN)

    return make


def add_to(main: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, pull, push, live):
        main.command()(command)


def _show_differences(differences: Sequence["Difference"], json: bool) -> None:
    if json:
        print_json(differences)
    for each in () if json else differences:
        echo(f"{_MARKS[each.here]}{_MARKS[each.there]} {each.path}")


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


def _show_outcomes(moved: "_Moved | Sequence[Difference]", json: bool) -> None:
    from gateway.client.folder.sync import conflicts

    if not isinstance(moved, _Moved):  # what would be moved
        _show_differences(moved, json)
        return

    if json:
        print_json(moved.outcomes)
    for each in () if json else moved.outcomes:
        echo(_said(each))
    if moved.fault is not None:
        fail(moved.fault)
    if not moved.outcomes and not json:
        typer.echo("up to date")
    raise typer.Exit(1 if conflicts(moved.outcomes) else 0)


@in_folder("Pulling", _show_outcomes)
async def pull(
    sync: "FolderSync", json: bool, directory: Directory, dry_run: DryRun = False
) -> "_Moved | list[Difference]":
    """Download changes of the project into a folder. Local edits are never overwritten.

    Files that .gitignore names are left alone. What was pulled is kept in DIR/.yjs-gateway. Exits with 1 if there is a
    conflict. With --dry-run the files that changed there are shown as `status` shows them.
    """
    if dry_run:
        return [each for each in await sync.differences() if each.there != "same"]
    return await _moved(sync.pull)


@in_folder("Pushing", _show_outcomes)
async def push(
    sync: "FolderSync", json: bool, directory: Directory, dry_run: DryRun = False
) -> "_Moved | list[Difference]":
    """Upload changes of a folder to the project, merged with changes of others.

    Files that .gitignore names, links and what is not UTF-8 text are left out. Exits with 1 if there is a conflict.
    With --dry-run the files that changed here are shown as `status` shows them.
    """
    if not directory.is_dir():
        fail(f"{directory} is not a folder")
    if dry_run:
        return [each for each in await sync.differences() if each.here != "same"]
    return await _moved(sync.push)


def _run_live(target: Target, arguments: dict[str, Any]) -> None:
    directory: Path = arguments["directory"]
    with _opened(target, directory) as opened:
        if not opened.target.url or not opened.target.project:
            opened.target.run(_nothing)  # says what is missing
        with _locked(opened.folder):
            opened.folder.state.save(opened.state)
            opened.folder.state.drop_leftovers()
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
            echo(_said(outcome))
        sys.stdout.flush()

    def ready(count: int) -> None:
        if opened.target.json:
            print_json({"live": str(directory), "files": count}, indent=0)
        else:
            echo(f"live: {directory}, {count} file{'' if count == 1 else 's'}")
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

    from gateway.client.folder.files import Folder
    from gateway.client.folder.state import FolderState

    folder = Folder(directory)
    try:
        kept = folder.state.load()
    except msgspec.DecodeError as fault:
        fail(f"{directory}/.yjs-gateway cannot be read ({fault}); without it, all files are compared again")
    url, project = target.url or (kept.url if kept else None), target.project or (kept.project if kept else None)
    if kept is not None and (kept.url, kept.project) != (url, project):
        fail(
            f"{directory} belongs to the project {kept.project} of {kept.url};"
            f" delete {directory}/.yjs-gateway to use it with another one"
        )
    state = kept or FolderState(url or "", project or "")
    try:
        yield _Opened(folder, state, msgspec.structs.replace(target, url=url, project=project))
    except OSError as fault:
        fail(f"{fault.filename or directory}: {fault.strerror}")


@contextlib.contextmanager
def _locked(folder: "Folder") -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder.state.locked())
        except BlockingIOError:
            fail(f"another process is at work on {folder.root}")
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
            fail(f"`live` was killed while it was sending a file; `yjs-gateway live {directory}` takes it up again")

        async def with_folder(files: "Project") -> T:
            with _progress(doing) as progress:
                try:
                    return await work(FolderSync(folder, files, state, progress))
                finally:
                    if saved and msgspec.json.encode(state) != before:  # a first time that found nothing ties nothing
                        folder.state.save(state)

        with _locked(folder) if saved and folder.state.exists() else contextlib.nullcontext():
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
