"""Restore and JSON of documents that hold every content that Yjs has, beside npm's Yjs."""

import base64
from collections import Counter
from typing import Any

import httpx
import pytest

from gateway.restore import restoring_update
from gateway.roots import kind_of, read_roots
from gateway.tree import read_tree
from tests.support.oracle import Oracle

_SEEDS = 600
_AT_ONCE = 100
_CLIENT = 77
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
