"""What is a path and what is a project id: the gateway is held to the vectors that every client runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.values import path_fault, valid_project_id

FILE = Path(__file__).parent.parent / "vectors" / "paths.json"
CASES: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", [each for each in CASES if "path" in each], ids=lambda each: each["name"])
def test_the_gateway_takes_the_paths_of_the_vectors(case: dict[str, Any]) -> None:
    assert (path_fault(case["path"]) is None) == case.get("ok", False)


@pytest.mark.parametrize("case", [each for each in CASES if "project" in each], ids=lambda each: each["name"])
def test_the_gateway_takes_the_project_ids_of_the_vectors(case: dict[str, Any]) -> None:
    assert valid_project_id(case["project"]) == case.get("ok", False)
