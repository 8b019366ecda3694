"""What the agent may be written in: it runs on Pythons that edgelstm itself does not."""

from __future__ import annotations

import ast
import sys
from importlib import resources

import pytest

FILES = sorted(
    file.name
    for file in (resources.files("edgelstm_devices") / "agent").iterdir()
    if file.name.endswith(".py")
)
OLDEST = (3, 9)
# Of the standard library, what is newer than that; each was tempting somewhere in this project.
NEWER_MODULES = {"tomllib"}
NEWER_NAMES = {
    "UTC", "StrEnum", "ExceptionGroup", "TaskGroup", "file_digest", "pairwise", "batched", "aiter",
    "anext", "hardlink_to", "bit_count", "add_note", "Self", "assert_never", "override",
    "stdlib_module_names", "orig_argv", "is_junction", "chdir",
}  # fmt: skip
NEWER_ARGUMENTS = {"zip": "strict", "dataclass": "slots kw_only", "Popen": "process_group",
                   "run": "process_group", "rmtree": "onexc dir_fd", "extractall": "filter",
                   "mkdtemp": "delete", "TemporaryDirectory": "delete"}  # fmt: skip
TYPES = {"int", "str", "float", "bool", "bytes", "list", "dict", "set", "tuple", "Path", "Any"}


def tree(file: str) -> ast.Module:
    text = (resources.files("edgelstm_devices") / "agent" / file).read_text(encoding="utf-8")
    return ast.parse(text, file, feature_version=OLDEST)


def never_run(module: ast.Module) -> set[int]:
    """The nodes that are never evaluated, by identity."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            roots.append(node.annotation)
    return {id(part) for root in roots if root is not None for part in ast.walk(root)}


def imports_of(module: ast.Module) -> set[str]:
    """The top-level names of what is imported absolutely."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("file", FILES)
def test_a_module_of_the_agent_is_of_python_3_9(file: str) -> None:
    module = tree(file)
    unevaluated = never_run(module)
    for node in ast.walk(module):
        where = f"{file}, line {getattr(node, 'lineno', '?')}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [ast.unparse(side).partition("[")[0] for side in (node.left, node.right)]
            union = "None" in sides or bool(TYPES & set(sides))
            assert not union or id(node) in unevaluated, f"{where}: X | Y at run time"
        if isinstance(node, ast.Attribute):
            assert node.attr not in NEWER_NAMES, f"{where}: {node.attr} is newer"
        if isinstance(node, ast.ImportFrom):
            newer = {alias.name for alias in node.names} & NEWER_NAMES
            assert not newer, f"{where}: {newer} is newer"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            given = {keyword.arg for keyword in node.keywords}
            newest = given & set(NEWER_ARGUMENTS.get(called, "").split())
            assert not newest, f"{where}: {newest} of {called} is newer"


@pytest.mark.parametrize("file", FILES)
def test_annotations_of_the_agent_are_not_evaluated(file: str) -> None:
    module = tree(file)
    typed = any(isinstance(n, ast.FunctionDef | ast.AnnAssign) for n in ast.walk(module))
    if typed:
        futures = [n for n in module.body if isinstance(n, ast.ImportFrom)]
        assert any(n.module == "__future__" for n in futures), f"{file} lacks the import"


@pytest.mark.parametrize("file", FILES)
def test_a_module_of_the_agent_imports_the_standard_library_and_the_agent_alone(file: str) -> None:
    module = tree(file)
    imported = imports_of(module)
    assert imported <= sys.stdlib_module_names, f"{file} imports more than the standard library"
    assert not imported & NEWER_MODULES
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{file}: {ast.unparse(node)} leaves the agent"
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                assert f"{name}.py" in FILES, f"{file} imports {name}, which is not sent"


def test_the_check_sees_what_is_too_new() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("match x:\n    case 1: pass\n", feature_version=OLDEST)
    found = imports_of(ast.parse("import numpy.linalg\nfrom click import echo\nfrom . import a"))
    assert found == {"numpy", "click"}
