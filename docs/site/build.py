"""Builds the documentation as a site, from the pages of the repository as they are. `scripts/docs` calls it.

The pages are copied with their folders, so that the links between them hold on the site as they do in the repository.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_PAGES = [
    "*.md",
    "LICENSE",
    "Dockerfile",
    "compose.yaml",
    "docs/*.*",
    "docs/plots/*.svg",
    "web/README.md",
    "benchmarks/README.md",
    "examples/README.md",
    "examples/vite.config.ts",
    "examples/[!n]*/README.md",
    "examples/[!n]*/*.ts*",
    "examples/[!n]*/*.py",
    "examples/nextjs/**/*.*",
    "tests/vectors/README.md",
]
_TOCTREE_ENTRY = re.compile(r"^[\w/-]+\.md$", re.M)


def gather(folder: Path) -> None:
    """Copy the pages, and what they link to, into a folder."""
    for pattern in _PAGES:
        for file in _ROOT.glob(pattern):
            target = folder / file.relative_to(_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    index = (_HERE / "index.md").read_text(encoding="utf-8")
    shutil.copyfile(_HERE / "python.md", folder / "python.md")
    present = _TOCTREE_ENTRY.sub(lambda entry: entry[0] if (folder / entry[0]).is_file() else "", index)
    (folder / "index.md").write_text(present, encoding="utf-8")


def build(site: Path) -> int:
    """Build the site; returns the exit code of Sphinx, for which every warning is an error."""
    with tempfile.TemporaryDirectory() as source:
        gather(Path(source))
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(_HERE), source, str(site)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
