"""What the documentation lists is what there is: settings, problems, figures, requests, modules, links."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.cli.main import main
from gateway.settings import MEBIBYTE, Settings
from gateway.wire.problems import Problem
from tests.docs.markdown import PROJECT, links, table, table_row
from tests.support.server import GatewayProcess

_README = PROJECT / "README.md"
_API = PROJECT / "docs" / "api.md"
_ARCHITECTURE = PROJECT / "docs" / "architecture.md"
_PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/*.md"),
        *PROJECT.glob("examples/*.md"),
        *PROJECT.glob("examples/*/*.md"),
    ]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client for a server of which nobody has asked anything."""
    database = tmp_path_factory.mktemp("docs") / "gateway.db"
    with GatewayProcess(database) as process, httpx.Client(base_url=process.url) as client:
        yield client


def test_settings_are_documented_as_they_are() -> None:
    rows = [
        table_row(f"`GATEWAY_{name.upper()}`", _default(field.default), str(field.description))
        for name, field in Settings.model_fields.items()
    ]
    assert "\n".join(table(_README, "Variable")) == "\n".join(rows)


def test_every_problem_is_documented_with_its_status_and_its_title() -> None:
    kinds: list[type[Problem]] = [Problem, *_subclasses(Problem)]
    problems = sorted(kinds, key=lambda problem: (problem.status, problem.code))
    rows = [table_row(f"`{problem.code}`", str(problem.status), problem.title) for problem in problems]
    documented = [row.rsplit("|", 2) for row in table(_API, "Code")]
    assert "\n".join(f"{meaning}|" for meaning, _, _ in documented) == "\n".join(rows)
    assert all(advice.strip() for _, advice, _ in documented), "what is a client to do?"


def test_metrics_are_documented_as_they_are_exposed(server: httpx.Client) -> None:
    exposition = server.get("/metrics").text
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", exposition, re.M))
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", exposition, re.M)
    rows = [table_row(f"`{name}`", kind, helps[name]) for name, kind in kinds]
    assert "\n".join(table(_README, "Metric")) == "\n".join(rows)


def test_every_request_is_documented_with_its_parameters(server: httpx.Client) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (PROJECT / "docs").glob("*.md"))
    missing = []
    for path, operations in server.get("/openapi.json").json()["paths"].items():
        short = path.replace("/api/projects/{project}/", "P/")
        for method, operation in operations.items():
            if not re.search(rf"`{method.upper()} {re.escape(short)}`", text):
                missing.append(f"{method.upper()} {short}")
            names = (parameter["name"] for parameter in operation["parameters"] if parameter["in"] != "path")
            missing += [f"{method.upper()} {short}: {name}" for name in names if not re.search(rf"`{name}\b", text)]
    assert missing == []


def test_every_command_is_documented() -> None:
    text = _README.read_text(encoding="utf-8")
    names = [command.name or getattr(command.callback, "__name__", "") for command in main.registered_commands]
    assert [
        name for name in names if name != "version" and f"`{name}`" not in text and f"scripts/{name}" not in text
    ] == []


def test_every_folder_has_its_line_in_the_architecture() -> None:
    listed = [row.split("`")[1] for row in table(_ARCHITECTURE, "Folder")]
    folders = {
        f"{file.parent.relative_to(PROJECT).as_posix()}/"
        for pattern in (
            "gateway/**/*.py",
            "storage/**/*.py",
            "yjs_gateway/*.py",
            "web/src/**/*.ts",
            "web/demo/*.tsx",
            "examples/*.ts",
            "web/graphiql/*.tsx",
            "web/reference/*.ts",
        )
        for file in PROJECT.glob(pattern)
    }
    assert sorted(listed) == sorted(folders)


def test_the_functions_that_the_architecture_names_exist() -> None:
    """Of "`folder/module.py` `one`, `two`"."""
    text = _ARCHITECTURE.read_text(encoding="utf-8")
    named = re.findall(r"`((?:gateway|storage)/[\w/]+\.py)`((?:,?\s+`\w+`)*)", text)
    assert len(named) > 20
    for module, functions in named:
        source = (PROJECT / module).read_text(encoding="utf-8")
        for function in re.findall(r"\w+", functions):
            assert re.search(rf"^\s*(async )?def {function}\(", source, re.M), f"{module} has no {function}"


def test_the_changelog_names_the_lowest_pycrdt() -> None:
    lowest = re.search(r"pycrdt>=([\d.]+)", (PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert lowest is not None
    assert f"pycrdt may be {lowest[1]} or a newer" in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (heading and heading not in _anchors(target)):
            dead.append(link)
    assert dead == []


def _default(value: object) -> str:
    if isinstance(value, int) and value >= MEBIBYTE and value % MEBIBYTE == 0:
        return f"`{value}` ({value // MEBIBYTE} MiB)"
    return "" if value in ((), "", None) else f"`{value}`"


def _subclasses(kind: type[Problem]) -> Iterator[type[Problem]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _anchors(page: Path) -> set[str]:
    """The names that headings have as targets of links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
