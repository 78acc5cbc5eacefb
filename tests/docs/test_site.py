"""The documentation as a site: built without a warning, with a page for each document and the references."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.markdown import PROJECT


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed")
    built = subprocess.run(
        [PROJECT / "scripts" / "docs", tmp_path / "site"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "warning" not in (built.stdout + built.stderr).lower()
    pages = [f"docs/{page.stem}.html" for page in (PROJECT / "docs").glob("*.md")]
    for page in [*pages, "index.html", "README.html", "search.html", "typescript/index.html"]:
        assert (tmp_path / "site" / page).is_file(), page
    assert "GatewayClient" in (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    assert "HttpProvider" in (tmp_path / "site" / "typescript" / "modules" / "provider.html").read_text(
        encoding="utf-8"
    )
