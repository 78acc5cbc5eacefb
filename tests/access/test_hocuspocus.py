"""The stock provider of Hocuspocus with credentials: tokens renewed in place, documents that are read-only."""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import pytest

from gateway.yjs.hocuspocus import authenticated, permission_denied, sync_status
from gateway.yjs.lib0 import var_bytes, var_uint
from gateway.yjs.messages import sync_step_1, sync_update
from tests.access.conftest import Subject, bearer
from tests.access.keys import SECRET
from tests.live.editors import EditorHost, Typewriter
from tests.live.hocuspocus import Open, Provider, providers, raw_hocuspocus
from tests.support.server import PATIENCE_S, GatewayProcess


@pytest.fixture(scope="module")
def editor_host(node: str) -> Iterator[EditorHost]:
    host = EditorHost()
    yield host
    host.close()


@pytest.fixture
def open_provider(editor_host: EditorHost) -> Iterator[Open]:
    with providers(editor_host) as open_one:
        yield open_one


@pytest.fixture
def admin(guarded: GatewayProcess, name: str) -> Iterator[Subject]:
    with Subject(guarded, name, bearer("root", admin=True)) as client:
        yield client


def token_message(token: str) -> bytes:
    return var_uint(2) + var_uint(0) + var_bytes(token.encode()) + var_bytes(b"4.8.0")


def test_a_token_opens_a_document_and_names_who_types(
    open_provider: Open, guarded: GatewayProcess, admin: Subject, name: str
) -> None:
    ann, bob = (
        open_provider(guarded, name, "a.md", token=bearer(who, projects={name: "write"})).synced()
        for who in ("ann", "bob")
    )
    ann.until_scope("read-write")
    ann.type("hello ")
    bob.until_text("hello ")
    bob.type("world")
    bob.until_saved()
    assert admin.text("a.md") == "hello world"
    assert {entry["author"] for entry in admin.get("/history/a.md").json()["versions"]} == {"ann", "bob"}
    audit = admin.get(f"{guarded.url}/api/audit", params={"project": name}).json()
    assert {entry["subject"] for entry in audit["entries"]} == {"ann", "bob"}


@pytest.mark.parametrize("kind", ["none", "wrong", "expired", "other project", "other path", "turns alone"])
def test_a_document_without_a_right_is_denied_alone(
    open_provider: Open, guarded: GatewayProcess, admin: Subject, name: str, kind: str
) -> None:
    admin.write("a.md", "secret")
    token, code = {
        "none": ("", 4401),
        "wrong": ("ygw_x", 4401),
        "expired": (bearer(seconds=-1, projects={name: "write"}), 4401),
        "other project": (bearer(projects={"other": "write"}), 4403),
        "other path": (bearer(projects={name: {"scope": "write", "paths": ["docs/"]}}), 4403),
        "turns alone": (bearer(projects={name: "turns"}), 4403),
    }[kind]
    denied = open_provider(guarded, name, "a.md", socket=f"{name} {kind}", token=token)
    what, reason = denied.until_told()
    assert (what, reason.partition(":")[0]) == ("denied", str(code))
    denied.type("not stored")
    good = open_provider(
        guarded,
        name,
        "b.md",
        socket=f"{name} {kind}",
        token=bearer(projects={name: {"scope": "write", "paths": ["b.md"]}}),
    ).synced()
    good.type("stored")
    good.until_saved()
    assert denied.unsaved > 0
    assert denied.text == "not stored"
    assert admin.text("a.md") == "secret"


def test_who_may_read_only_is_told_so_and_reads_on(
    open_provider: Open, guarded: GatewayProcess, admin: Subject, name: str
) -> None:
    admin.write("a.md", "text")
    writer = open_provider(guarded, name, "a.md", token=bearer("ann", projects={name: "write"})).synced()
    reader = open_provider(guarded, name, "a.md", token=bearer("bob", projects={name: "read"})).synced()
    reader.until_scope("readonly")
    reader.until_text("text")
    reader.until_saved()
    writer.delete(0, 2)
    reader.until_text("xt")
    reader.cut()
    reader.synced()
    reader.until_saved()  # deletions are told again, which is nothing new
    reader.type("!")
    writer.type("?")
    reader.until_holds("?")
    assert reader.unsaved == 1
    assert admin.text("a.md") == "xt?"


def test_each_addition_of_a_reader_is_answered_with_no(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    admin.write("a.md", "text")
    with raw_hocuspocus(guarded, name) as raw:
        raw.send("a.md", token_message(bearer(projects={name: "read"})))
        raw.until("a.md", authenticated(read_only=True))
        raw.send("a.md", sync_update(admin.get("/files/a.md").content))
        raw.until("a.md", sync_status(saved=True))
        raw.send("a.md", sync_update(Typewriter().type("x")))
        assert sync_status(saved=True) not in raw.until("a.md", sync_status(saved=False))
    assert admin.text("a.md") == "text"


def test_a_token_is_asked_for_and_renewed_in_place(
    open_provider: Open, guarded: GatewayProcess, admin: Subject, name: str
) -> None:
    seconds = 4.0
    while True:
        token = bearer("ann", seconds=seconds, projects={name: "write"})
        ann = open_provider(guarded, name, "a.md", token=token)
        if told := _until_synced(ann):
            break
        ann.leave()
        seconds *= 3
    ann.next_token(bearer("ann", seconds=600, projects={name: "write"}))
    ann.until_renewed(1)
    ann.send_token(bearer("ann", projects={name: "read"}))
    ann.until_scope("readonly")
    ann.send_token(bearer("ann2", projects={name: "write"}))
    ann.until_scope("read-write")
    ann.type("text")
    ann.until_saved()
    assert {entry["author"] for entry in admin.get("/history/a.md").json()["versions"]} == {"ann2"}
    ann.send_token("ygw_x")
    assert told.result(PATIENCE_S)[0] == "denied"
    assert ann.until_told()[0] == "closed"


def _until_synced(provider: Provider) -> Future[Any] | None:
    """Wait until a provider is in its document; returns what it is told next. None: its credential ended before."""
    synced, told = provider.start("synced"), provider.start("until_told")
    wait([synced, told], PATIENCE_S, FIRST_COMPLETED)
    return told if synced.done() else None


@pytest.mark.parametrize("way", ["expires", "revoked"])
def test_a_credential_that_ends_ends_its_documents_and_loses_nothing(
    open_provider: Open, guarded: GatewayProcess, admin: Subject, name: str, way: str
) -> None:
    lasting = bearer("bob", projects={name: "write"})
    other = open_provider(guarded, name, "b.md", socket=name, token=lasting).synced()
    if way == "expires":
        seconds = 3.0
        while True:  # until all is saved before the credential ends
            token = bearer("ann", seconds=seconds, projects={name: "write"})
            typist = open_provider(guarded, name, "a.md", socket=name, token=token)
            if told := _until_synced(typist):
                break
            typist.leave()
            seconds *= 3
        typist.type("before ")
    else:
        made = admin.post(f"{guarded.url}/api/tokens", json={"name": "ann", "projects": {name: "write"}}).json()
        typist = open_provider(guarded, name, "a.md", socket=name, token=made["token"]).synced()
        typist.type("before ")
        typist.until_saved()
        told = typist.start("until_told")
        admin.delete(f"{guarded.url}/api/tokens/{made['id']}")
    what, reason = told.result(PATIENCE_S)
    assert (what, reason[:5]) == ("denied", "4401:")
    assert typist.until_told() == ("closed", reason)
    typist.type("and after")
    other.type("still open")
    other.until_saved()
    typist.next_token(lasting)
    typist.attach_again()
    typist.until_saved()
    assert admin.text("a.md") == "before and after"


@pytest.mark.parametrize("way", ["header", "query", "subprotocol", "ticket"])
def test_an_empty_token_is_the_credential_of_the_socket(
    guarded: GatewayProcess, admin: Subject, name: str, way: str
) -> None:
    admin.write("a.md", "text")
    token = bearer(projects={name: "read"})
    options: dict[str, Any] = {
        "header": {"additional_headers": {"Authorization": f"Bearer {token}"}},
        "query": {"query": f"?token={token}"},
        "subprotocol": {"subprotocols": ["yjs-gateway", f"bearer.{token}"]},
        "ticket": {"query": "?ticket=" + admin.post("/tickets").json()["ticket"]},
    }[way]
    with raw_hocuspocus(guarded, name, **options) as raw:
        raw.send("a.md", token_message(""))
        raw.until("a.md", authenticated(read_only=way != "ticket"))
        raw.send("a.md", sync_step_1(b"\0"))
        while not (message := raw.receive()[1]).startswith(b"\0\1"):
            pass
        assert b"text" in message


def test_guessed_tokens_are_bound_and_noted(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    database = tmp_path_factory.mktemp("guessed") / "gateway.db"
    options = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET, "GATEWAY_RATE_FAILURES": 5}
    with GatewayProcess(database, **options) as gateway:
        good = bearer(projects={name: "write"})
        with raw_hocuspocus(gateway, name) as raw:
            reason, guesses = b"", 0
            while b"1013: " not in reason:  # one more may be checked every twelve seconds
                raw.send("a.md", token_message(f"ygw_{guesses}"))
                reason = raw.receive()[1]
                assert reason.startswith(permission_denied("4401:")[:2])
                guesses += 1
                if b"1013: " in reason:
                    raw.send("a.md", token_message(good))
                    reason = raw.receive()[1]
            assert guesses > 5
        with Subject(gateway, name, bearer("root", admin=True)) as admin:
            assert admin.get("/files").status_code in (200, 404, 429)


def test_a_right_of_one_path_opens_no_other(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    token = bearer(projects={name: {"scope": "write", "paths": ["docs/"]}})
    admin.write("a.md", "secret")
    with raw_hocuspocus(guarded, name) as raw:
        raw.send("docs/b.md", token_message(token))
        raw.until("docs/b.md", authenticated(read_only=False))
        for message in (token_message(token), sync_step_1(b"\0"), var_uint(3), sync_update(Typewriter().type("x"))):
            raw.send("a.md", message)
        raw.send("docs/b.md", sync_update(Typewriter().type("y")))
        said = []
        while (came := raw.receive()) != ("docs/b.md", sync_status(saved=True)):
            said.append(came)
        about = [message for path, message in said if path == "a.md"]
        assert about == [permission_denied("4403: the credential does not reach that far")]
    assert admin.text("a.md") == "secret"
