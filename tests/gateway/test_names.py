"""What is a path and what is a project id: the gateway is held to the vectors that every client runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.values import are_paths, path_fault, valid_project_id

FILE = Path(__file__).parent.parent / "vectors" / "paths.json"
CASES: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", [each for each in CASES if "path" in each], ids=lambda each: each["name"])
def test_the_gateway_takes_the_paths_of_the_vectors(case: dict[str, Any]) -> None:
    assert (path_fault(case["path"]) is None) == case.get("ok", False)


@pytest.mark.parametrize("case", [each for each in CASES if "project" in each], ids=lambda each: each["name"])
def test_the_gateway_takes_the_project_ids_of_the_vectors(case: dict[str, Any]) -> None:
    assert valid_project_id(case["project"]) == case.get("ok", False)


def test_a_path_that_was_found_valid_stays_so_and_an_invalid_one_never_is() -> None:
    paths = {case["path"]: case.get("ok", False) for case in CASES if "path" in case}
    for _ in range(2):
        for path, valid in paths.items():
            assert are_paths([path]) == valid
    valid_ones = [path for path, valid in paths.items() if valid]
    assert are_paths(valid_ones)
    assert all(not are_paths([*valid_ones, path]) for path, valid in paths.items() if not valid)
