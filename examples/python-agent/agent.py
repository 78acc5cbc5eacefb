"""An agent that edits a file while people type in it: it does the tasks of a list, and ticks off each.

python examples/python-agent/agent.py examples/codemirror.md
"""

import asyncio
import os
import re
import sys
from functools import partial

from yjs_gateway import GatewayClient

_TASK = re.compile(r"^- \[ \] (.+)$", re.M)


async def work_on(task: str) -> str:
    """Do a task and say how it went. A real agent calls a model and its tools here."""
    await asyncio.sleep(1)
    return f"{task} (done by the agent)"


def replace_line(text: str, old: str, new: str) -> str:
    return "\n".join(new if line == old else line for line in text.split("\n"))


async def main(path: str) -> None:
    url = os.environ.get("GATEWAY_URL", "http://localhost:8000")
    async with GatewayClient(url, token=os.environ.get("GATEWAY_TOKEN"), author="agent") as gateway:
        project = gateway.project(os.environ.get("GATEWAY_PROJECT", "demo"))
        while found := _TASK.search((await project.read_text(path)).value):
            result = f"- [x] {await work_on(found[1])}"
            # Writes this line into the text as it is by now: whatever people typed meanwhile stays.
            await project.edit(path, partial(replace_line, old=found[0], new=result))
            print(result, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
