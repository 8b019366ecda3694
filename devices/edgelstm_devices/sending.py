"""The agent as bytes that a Python without anything installed can run."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

HELLO = b"edgelstm agent "
"""What the device says when it is ready for the modules, and its version of Python; a shell may
have greeted before."""

# A quote of any other kind would have to be told to every shell there is. It has to be read by any
# Python, too, to tell that it is too old.
STARTER = (
    "import sys; i=sys.stdin.buffer; o=sys.stdout; "
    'o.write("edgelstm agent %d.%d\\n" % sys.version_info[:2]); o.flush(); '
    "exec(i.read(int(i.readline())))"
)
OLDEST = (3, 9)

_LOADER = """
import importlib.abc, importlib.util, json, sys
class Modules(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, sources): self.sources = sources
    def find_spec(self, name, path=None, target=None):
        if name in self.sources:
            return importlib.util.spec_from_loader(name, self, is_package=self.is_package(name))
    def is_package(self, name): return "." not in name
    def get_source(self, name): return self.sources[name]
sys.meta_path.insert(0, Modules(json.loads(%r)))
from edgelstm_agent.serve import main
main()
"""


def command(python: str = "python3") -> list[str]:
    """What has to be started on the device."""
    return [python, "-I", "-u", "-c", STARTER]


@cache
def payload() -> bytes:
    """What it wants on its standard input, after it said `HELLO`."""
    sources = {
        "edgelstm_agent" + ("" if name == "__init__" else f".{name}"): source
        for name, source in modules().items()
    }
    program = (_LOADER % json.dumps(sources)).encode()
    return b"%d\n%b" % (len(program), program)


def modules() -> dict[str, str]:
    """The source of every module of the agent, by name."""
    folder = resources.files("edgelstm_devices") / "agent"
    return {
        file.name.removesuffix(".py"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".py")
    }
