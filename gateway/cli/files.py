"""The commands on the files of a project: `ls`, `cat`, `put`, `edit`, `rm`, `mv`, `restore`, `watch`, `history`,
`diff`, `log`. Human output by default, with `--json` one value, or one a line where many come.

A command is a coroutine that is given the project, and whether it is to print JSON; `on_project` adds the options that
say where the project is.
"""

import asyncio
import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import DryRun
from gateway.cli.printing import complain, echo, fail, print_json, print_rows, printable
from gateway.cli.target import FilePath, on_project

if TYPE_CHECKING:
    from gateway.client import Project
    from gateway.wire.changes import FeedEntry

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
"""Of the lines of a diff, on a terminal."""


class TextForm(StrEnum):
    """How `cat` prints a file."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


def add_to(main: typer.Typer) -> None:
    """Add the commands."""
    for command in (ls, cat, put, edit, rm, mv, restore, watch, history, diff, log):
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
    format: Annotated[
        TextForm, typer.Option(help="How to print it; Markdown and HTML are of rich text.")
    ] = TextForm.TEXT,
) -> None:
    """Print the text of a file, or its rich text as Markdown or HTML."""
    read = {TextForm.TEXT: files.read_text, TextForm.MARKDOWN: files.read_markdown, TextForm.HTML: files.read_html}
    text = await read[format](path, at_version=version)
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
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The file is Markdown: edit the rich text by it.")
    ] = False,
) -> None:
    """Upload a local file (or stdin) as a minimal edit. With --base, what others wrote since that version stays."""
    if path is None and str(file) == "-":
        raise typer.BadParameter("text from stdin needs a path")
    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode()
    except UnicodeDecodeError as fault:
        fail(f"{file} is not UTF-8 text (byte {fault.start})")
    except OSError as fault:
        fail(f"{file}: {fault.strerror}")
    write = files.put_markdown if markdown else files.put_text
    receipt = (await write(path or file.name, text, base_version=base)).value
    if json:
        print_json(receipt)
    else:
        merged = ", merged" if receipt.merged is True else ""
        echo(f"{receipt.path}: version {receipt.version}{merged}{'' if receipt.changed else ', unchanged'}")


@on_project
async def edit(
    files: "Project",
    json: bool,
    path: FilePath,
    replace: Annotated[
        tuple[str, str],
        typer.Option(
            help="The text to replace, which must occur exactly once, and its replacement.", metavar="OLD NEW"
        ),
    ],
    every: Annotated[bool, typer.Option("--all", help="Replace every occurrence.")] = False,
    base: Annotated[
        int | None, typer.Option(help="The version in which OLD stands; edits since then stay.", min=1)
    ] = None,
) -> None:
    """Replace a part of a file's text. What others write elsewhere in the file stays."""
    from gateway.wire.files import RequestedEdit

    old, new = replace
    edits = [RequestedEdit(old=old, new=new, all=every)]
    receipt = (await files.edit_text(path, edits, base_version=base)).value
    if json:
        print_json(receipt)
    else:
        echo(f"{receipt.path}: version {receipt.version}{'' if receipt.changed else ', unchanged'}")


@on_project
async def diff(
    files: "Project",
    json: bool,
    path: FilePath,
    older: Annotated[
        int | None, typer.Argument(metavar="OLDER", help="A version (default: the one before NEWER).", min=1)
    ] = None,
    newer: Annotated[
        int | None, typer.Argument(metavar="NEWER", help="A version (default: the newest).", min=1)
    ] = None,
) -> None:
    """Print how the text of a file differs between two versions, as a unified diff. With --json as edits."""
    last = newer or (await files.history(path, limit=1)).versions[0].version
    first = last - 1 if older is None else older
    if first < 1:
        fail(f"{path} has one version")
    if json:
        print_json(await files.text_difference(path, first, last))
        return
    for line in (await files.unified_diff(path, first, last)).splitlines():
        typer.secho("\t".join(map(printable, line.split("\t"))), fg=_COLOURS.get(line[:1]))


@on_project
async def rm(
    files: "Project",
    json: bool,
    paths: Annotated[list[str], typer.Argument(help="The files; with -r also folders.", metavar="PATH...")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Delete what is in folders as well.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Delete files. Their history stays, and a restore brings them back.

    What cannot be deleted is named, and the others are deleted; then the exit code is 1.
    """
    from gateway.client.errors import FileDeleted, FileNotFound

    deleted, faults = [], []
    for path in [file for named in paths for file in await _beneath(files, named, recursive)]:
        try:
            if not dry_run:
                await files.delete(path)
        except (FileNotFound, FileDeleted) as fault:
            faults.append(str(fault))
            continue
        deleted.append(path)
        if not json:
            echo(f"{path}: {'would be deleted' if dry_run else 'deleted'}")
    if json:
        print_json({"deleted": deleted})
    for each in faults:
        complain(each)
    if faults:
        raise typer.Exit(1)


async def _beneath(files: "Project", path: str, recursive: bool) -> list[str]:
    """The files that a path means: itself, or with `recursive` those of a folder."""
    if not recursive:
        return [path]
    folder = path.rstrip("/") + "/"
    return [each.path for each in await files.all_files(folder)] or [path]


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
        echo(f"{source} is {receipt.path} now, version {receipt.version}")


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
        echo(f"{receipt.path}: version {receipt.version}, as it was at version {wanted}{unchanged}")


async def _last_before_deletion(files: "Project", path: str) -> int:
    newest, *before = (await files.history(path, limit=2)).versions
    if not newest.deleted:
        fail(f"{path} is not deleted: say which --version")
    if not before:
        fail(f"{path}: what it was is not kept any more")
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
                echo(f"{change.last_modified}  {change.change_type:8}  {change.version}  {change.path}")
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
            echo("the cursor is of another life of the project: this is all that there is")
        for entry in answer.changes:
            if json:
                print_json(entry, indent=0)
            else:
                _print_entry(entry)
        since, more = answer.cursor, answer.more
    if json:
        print_json({"cursor": since}, indent=0)
    else:
        echo(f"cursor {since}")


def _print_entry(entry: "FeedEntry") -> None:
    """A file with what changed, or a turn."""
    from gateway.wire.changes import TurnFeedEntry

    if isinstance(entry, TurnFeedEntry):
        prompt = entry.prompt if isinstance(entry.prompt, str) else ""
        echo(f"turn {entry.turn_id} {entry.status}: {prompt.partition(chr(10))[0]}")
        return
    authors = ", ".join(entry.authors or ()) or "somebody"
    known = "?" if entry.from_version is None else entry.from_version
    echo(f"{entry.path} {entry.change_type} by {authors}, version {known} to {entry.version}")
    if entry.diff is None:
        echo("  no difference: it is too long, or no text")
    for line in str(entry.diff or "").split("\n")[:-1]:
        typer.echo("\t".join(map(printable, line.split("\t"))))
