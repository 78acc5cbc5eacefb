"""A disk that fails to flush, or turns read-only, under a running gateway: said, survived, and gone on from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.server import GatewayProcess

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="compiles a library that stands before libc"
)

# The calls that SQLite makes to write and to flush fail as long as a file is there that says how.
_LIBRARY = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *variable, int error) {
    struct stat status;
    const char *path = getenv(variable);
    if (path == NULL || stat(path, &status) != 0) return 0;
    errno = error;
    return 1;
}
int fsync(int file) { return fails("FAIL_FLUSH", EIO) ? -1 : (int)syscall(SYS_fsync, file); }
int fdatasync(int file) { return fails("FAIL_FLUSH", EIO) ? -1 : (int)syscall(SYS_fdatasync, file); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    return fails("FAIL_WRITE", EROFS) ? -1 : syscall(SYS_pwrite64, file, data, size, place);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t place) { return pwrite64(file, data, size, place); }
int ftruncate64(int file, off64_t size) {
    return fails("FAIL_WRITE", EROFS) ? -1 : (int)syscall(SYS_ftruncate, file, size);
}
int ftruncate(int file, off_t size) { return ftruncate64(file, size); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "failing.c").write_text(_LIBRARY)
    built = folder / "failing.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(built), str(folder / "failing.c")], check=True)
    return built


def _put(client: httpx.Client, path: str, text: str) -> httpx.Response:
    return client.put(f"/files/{path}", content=text.encode(), headers={"Content-Type": "text/plain"})


@pytest.mark.parametrize("kind", ["FAIL_FLUSH", "FAIL_WRITE"])
def test_nothing_is_acknowledged_that_the_disk_did_not_take(library: Path, tmp_path: Path, kind: str) -> None:
    fails = tmp_path / "fails"
    gateway = GatewayProcess(tmp_path / "gateway.db", LD_PRELOAD=library, **{kind: fails})
    with gateway, gateway.client() as client:
        acknowledged = {f"{number}.md": f"{number} " + os.urandom(9_000).hex() for number in range(5)}
        for path, text in acknowledged.items():
            _put(client, path, text).raise_for_status()
        for round_ in range(3):
            fails.touch()
            for number in range(5):
                refused = _put(client, f"{number}.md", f"not taken {round_}")
                assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
                assert int(refused.headers["Retry-After"]) > 0
            for path, text in acknowledged.items():
                assert client.get(f"/files/{path}?format=text").text == text
            fails.unlink()
            acknowledged["0.md"] = f"taken again {round_}"
            assert _put(client, "0.md", acknowledged["0.md"]).json()["version"] == 2 + round_
        gateway.kill()
        with gateway, gateway.client() as again:
            for path, text in acknowledged.items():
                assert again.get(f"/files/{path}?format=text").text == text
            assert gateway.stop() == 0
    verify = [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{gateway.database}"]
    assert subprocess.run(verify, capture_output=True).returncode == 0
