"""Restore and JSON of documents that hold every content that Yjs has, beside npm's Yjs."""

import base64
from collections import Counter
from random import Random
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.yjs.reconcile import restoring_update
from gateway.yjs.roots import kind_of, read_roots
from gateway.yjs.scan import scan
from gateway.yjs.tree import read_tree
from tests.support.oracle import Oracle

_SEEDS = 600
_AT_ONCE = 100
_CLIENT = 77
_ALPHABET = "abcdefgh \n1234äöüß😀🙂👍🎉"
_KINDS = {"t": "text", "a": "array", "m": "map", "x": "xml", "e": "xml"}


@pytest.mark.parametrize("first", range(0, _SEEDS, _AT_ONCE))
def test_restoring_makes_of_any_version_exactly_the_other(first: int, oracle: Oracle) -> None:
    changed = 0
    for seed in range(first, first + _AT_ONCE):
        old, new = oracle.versions(seed)
        before, after = oracle.look([old]), oracle.look([new])
        update = restoring_update(new, old, _CLIENT)
        assert (update is not None) == (before["seen"] != after["seen"]), seed
        changed += update is not None
        if update is not None:
            restored = oracle.look([new, update])
            assert restored["seen"] == before["seen"], seed
            assert restoring_update(base64.b64decode(restored["whole"]), old, _CLIENT) is None, seed
        assert restoring_update(old, old, _CLIENT) is None, seed
        anew = restoring_update(b"\x00\x00", old, _CLIENT)
        assert oracle.look([anew or b"\x00\x00"])["seen"] == before["seen"], seed
    assert changed > _AT_ONCE / 2


@pytest.mark.parametrize("first", range(0, _SEEDS, _AT_ONCE))
def test_the_json_of_any_document_is_that_of_yjs(first: int, oracle: Oracle) -> None:
    compared: Counter[str] = Counter()
    for seed in range(first, first + _AT_ONCE):
        for version in oracle.versions(seed):
            found = read_roots(version)
            expected: dict[str, Any] = oracle.look([version])["json"]
            for name, root in read_tree(version).roots.items():
                if (
                    name in _KINDS and kind_of(root) == _KINDS[name]
                ):  # else it holds nothing that told what it was made as
                    value = expected[name]
                    if name == "e" and not root.members():  # as a fragment
                        value = value.removeprefix("<undefined>").removesuffix("</undefined>")
                    assert found[name] == value, (seed, name)
                    compared[name] += 1
    assert set(compared) == set(_KINDS)


def test_a_restore_over_http_makes_of_a_file_exactly_what_it_was(shared_project: httpx.Client, oracle: Oracle) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    for seed in range(5000, 5040):
        url = f"/files/{seed}"
        old, new = oracle.versions(seed)
        shared_project.patch(url, content=old, headers=octets).raise_for_status()
        before = oracle.look([shared_project.get(url).content])["seen"]
        assert before == oracle.look([old])["seen"], seed
        shared_project.patch(url, content=new, headers=octets).raise_for_status()
        for changed in (oracle.look([new])["seen"] != before, False):
            answer = shared_project.post(f"/history/{seed}/restore", json={"version": 1}).raise_for_status()
            assert answer.json()["changed"] is changed, seed
            assert oracle.look([shared_project.get(url).content])["seen"] == before, seed


def _pieces(count: int, client: int) -> "pycrdt.Doc[Any]":
    """A text that was typed from its end to its beginning, each piece for itself."""
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client)
    text = document.get("content", type=pycrdt.Text)
    for place in range(count):
        text.insert(0, _ALPHABET[place * 7919 % len(_ALPHABET)])
    return document


def _change(document: "pycrdt.Doc[Any]", changes: int) -> None:
    """Replace characters, each with another one of as many bytes."""
    text = document.get("content", type=pycrdt.Text)
    random = Random(changes)
    for _ in range(changes):
        written = str(text)
        place = random.randrange(len(written))
        at = len(written[:place].encode())
        old = written[place]
        del text[at : at + len(old.encode())]
        text.insert(at, random.choice([each for each in _ALPHABET if len(each.encode()) == len(old.encode())]))


def test_a_restore_is_about_as_large_as_what_changed_in_however_long_a_text(oracle: Oracle) -> None:
    document = _pieces(20_000, 1)
    old = document.get_update()
    _change(document, 300)
    new = document.get_update()
    update = restoring_update(new, old, _CLIENT)
    assert update is not None
    assert len(update) < 300 * 30
    assert oracle.text([new, update]) == oracle.text([old])


def test_a_text_that_was_written_anew_is_restored_by_what_it_holds(oracle: Oracle) -> None:
    old, other = _pieces(3000, 1).get_update(), _pieces(3000, 2)
    _change(other, 5)
    update = restoring_update(other.get_update(), old, _CLIENT)
    assert update is not None
    assert len(update) < 5 * 60
    assert oracle.text([other.get_update(), update]) == oracle.text([old])


def test_what_was_deleted_comes_back_as_one_piece(oracle: Oracle) -> None:
    document = _pieces(3000, 1)
    old = document.get_update()
    document.get("content", type=pycrdt.Text).clear()
    update = restoring_update(document.get_update(), old, _CLIENT)
    assert update is not None
    assert len(scan(update).structs) == 1
    assert oracle.text([document.get_update(), update]) == oracle.text([old])


@pytest.mark.parametrize("seed", range(20))
def test_equal_ids_of_documents_that_are_not_one_mean_nothing(seed: int, oracle: Oracle) -> None:
    """Where two writers had one id, or a document was built anew under it, items of one id hold other things."""
    versions = []
    for place in range(2):
        random = Random(100 * seed + place)
        document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
        text = document.get("content", type=pycrdt.Text)
        for _ in range(30):
            written = str(text)
            at = len(written[: random.randint(0, len(written))].encode())
            text.insert(at, "".join(random.choices(_ALPHABET, k=random.randint(1, 3))))
        versions.append(document.get_update())
    old, new = versions
    update = restoring_update(new, old, _CLIENT)
    assert oracle.text([new, update or b"\x00\x00"]) == oracle.text([old])
