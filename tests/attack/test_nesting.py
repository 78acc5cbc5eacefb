"""Values and shared types that are nested so deeply that yrs would die of them are refused, and the gateway goes on."""

import httpx
import pytest

from gateway.yjs.lib0 import var_uint
from gateway.yjs.messages import sync_update
from tests.live.clients import name_of
from tests.live.editors import raw_client
from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}
_VALUES, _TYPES = 1_000, 5_000
"""How many levels are allowed."""
_READ = 128
"""How many levels of values are read as JSON."""
_FALSE = b"\x79"
_ERASE_FIRST = b"\0\1\1\1\0\1"
"""Deletes the first struct of client 1."""


def _update(client: int, clock: int, structs: list[bytes]) -> bytes:
    return b"".join([b"\1", var_uint(len(structs)), var_uint(client), var_uint(clock), *structs, b"\0"])


def _array(parent: bytes) -> bytes:
    """A struct that holds an array."""
    return b"\7" + parent + b"\0"


_ROOT = b"\1\5array"


def _at(client: int, clock: int) -> bytes:
    return b"\0" + var_uint(client) + var_uint(clock)


def arrays(levels: int) -> bytes:
    """Arrays in arrays in the root `array`."""
    return _update(1, 0, [_array(_ROOT), *(_array(_at(1, clock)) for clock in range(levels - 1))])


def arrays_backwards(levels: int) -> bytes:
    """The same, of as many clients: the deepest come first."""
    structs = [
        _update(client, 0, [_array(_at(client - 1, 0) if client > 1 else _ROOT)])[1:-1]
        for client in range(levels, 0, -1)
    ]
    return var_uint(levels) + b"".join(structs) + b"\0"


def values(levels: int) -> bytes:
    """A list in a list, as a plain value."""
    return _update(1, 0, [b"\x08" + _ROOT + b"\1" + b"\x75\1" * levels + _FALSE])


def objects(levels: int) -> bytes:
    return _update(1, 0, [b"\x08" + _ROOT + b"\1" + b"\x76\1\1k" * levels + _FALSE])


def options(levels: int) -> bytes:
    """The options of a subdocument."""
    return _update(1, 0, [b"\x09" + _ROOT + b"\1g" + b"\x75\1" * levels + _FALSE])


KINDS = {
    "arrays": (arrays, _TYPES),
    "arrays, the deepest first": (arrays_backwards, _TYPES),
    "values": (values, _VALUES),
    "objects": (objects, _VALUES),
    "options": (options, _VALUES),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [1, 10_000, 100_000])
def test_what_is_nested_too_deeply_is_refused(shared_project: httpx.Client, kind: str, more: int) -> None:
    made, most = KINDS[kind]
    refused = shared_project.patch("/files/a.json", content=made(most + more), headers=_OCTETS)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_update")
    assert "nested" in refused.json()["detail"]
    assert shared_project.get("/files/a.json").status_code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_nested_as_deeply_as_is_allowed_is_read_deleted_and_restored(
    shared_project: httpx.Client, kind: str
) -> None:
    made, most = KINDS[kind]
    shared_project.patch("/files/a.json", content=made(most), headers=_OCTETS).raise_for_status()
    update = shared_project.get("/files/a.json").content
    before = shared_project.get("/files/a.json?format=json")
    shared_project.patch("/files/a.json", content=_ERASE_FIRST, headers=_OCTETS).raise_for_status()
    restored = shared_project.post("/history/a.json/restore", json={"version": 1})
    if most == _VALUES:
        assert update == made(most)
        assert restored.status_code == 200
        again = shared_project.get("/files/a.json?format=json")
        assert (again.status_code, again.content) == (before.status_code, before.content)
    else:  # the update can be had, but is too much for all that goes into it
        for answer in (before, restored):
            assert (answer.status_code, answer.json()["code"]) == (409, "nested_too_deeply")
        assert shared_project.get("/files/a.json?at_version=1").status_code == 200


def test_values_within_shared_types_may_both_be_nested(shared_project: httpx.Client) -> None:
    inside = b"\x08" + _at(1, 127) + b"\1" + b"\x75\1" * _READ + _FALSE
    structs = [_array(_ROOT), *(_array(_at(1, clock)) for clock in range(127)), inside]
    shared_project.patch("/files/a.json", content=_update(1, 0, structs), headers=_OCTETS).raise_for_status()
    before = shared_project.get("/files/a.json?format=json").raise_for_status().text
    assert before == '{"array":' + "[" * (128 + _READ) + "[false]" + "]" * (128 + _READ) + "}"
    shared_project.patch("/files/a.json", content=_ERASE_FIRST, headers=_OCTETS).raise_for_status()
    shared_project.post("/history/a.json/restore", json={"version": 1}).raise_for_status()
    assert shared_project.get("/files/a.json?format=json").text == before


def test_levels_that_come_little_by_little_are_counted_too(gateway: GatewayProcess, project: httpx.Client) -> None:
    for first in range(0, _TYPES, 50):
        if first == _TYPES // 2:  # what is read anew is known to be as deep
            gateway.stop()
            gateway.start()
            project = gateway.client()
        structs = [_array(_ROOT if level == 0 else _at(1, level - 1)) for level in range(first, first + 50)]
        project.patch("/files/a.json", content=_update(1, first, structs), headers=_OCTETS).raise_for_status()
    refused = project.patch("/files/a.json", content=_update(1, _TYPES, [_array(_at(1, _TYPES - 1))]), headers=_OCTETS)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_update")
    assert project.get("/files/a.json").headers["X-Version"] == str(_TYPES // 50)
    project.close()


def test_many_shared_types_side_by_side_are_no_depth(shared_project: httpx.Client) -> None:
    for start in range(0, 12_000, 1_200):
        structs = [_array(_ROOT)] * 1_200
        shared_project.patch("/files/a.json", content=_update(1, start, structs), headers=_OCTETS).raise_for_status()
    assert shared_project.get("/files/a.json").headers["X-Version"] == "10"


@pytest.mark.parametrize("kind", KINDS)
def test_a_room_closes_on_what_is_nested_too_deeply(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, kind: str
) -> None:
    with raw_client(shared_gateway, name_of(shared_project), "a.json") as client:
        client.send(sync_update(KINDS[kind][0](30_000)))
        assert client.close_code() == 4422
    assert shared_project.get("/files/a.json").status_code == 404
