"""The architecture, checked: who may import whom, no cycles, no hidden state, no module without a subject, no endless function.

The rules are tables at the top; each check takes a directory that holds a package `engine` and gives its violations as sentences.
They run on the engine itself, and on small faulty trees that prove each check able to fail.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Part of the engine (first name below `engine`) -> the parts it may import, besides itself.
FOUNDATION = frozenset({"errors", "version"})
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "version": frozenset(),
    "setting_values": FOUNDATION,
    "settings": FOUNDATION | {"setting_values"},
    "tools": FOUNDATION,
    "audio": FOUNDATION | {"_codec"},
    "wire": FOUNDATION,
    "call": FOUNDATION | {"wire", "audio", "tools", "_codec"},
    "web": FOUNDATION | {"call", "wire", "audio", "settings", "tools"},
    "runtime": FOUNDATION | {"call", "wire", "audio", "settings", "tools", "web", "_codec"},
    "simulator": FOUNDATION | {"audio"},  # plays the other side: an implementation of its own, or it proves nothing
    "demo": FOUNDATION | {"simulator", "audio", "settings", "tools"},
    "check": FOUNDATION | {"settings"},
    "__main__": frozenset({"cli"}),
}
UNLAYERED = frozenset({"", "cli"})  # the public names, and the command that chooses among all parts
KNOWS_TRIO = frozenset({"runtime", "web", "simulator", "demo"})
CORE = frozenset({"audio", "wire", "call"})
NOT_IN_THE_CORE = frozenset({"asyncio", "select", "selectors", "socket", "ssl", "threading", "time"})
WITHOUT_SUBJECT = frozenset({"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})
MOST_LINES_OF_A_FUNCTION = 60
CONTAINER_MAKERS = frozenset(
    {"dict", "list", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict", "ChainMap"}
)
READ_ONLY = frozenset({"Final", "Mapping", "Sequence", "Set", "Collection", "ClassVar"})


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, whether it is a package's `__init__`, and its syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module

    @property
    def part(self) -> str:
        """The first name below `engine`; empty for `engine` itself."""
        return part_of(self.name)


@dataclass(frozen=True)
class Import:
    """One imported module: where, what (absolute), and whether only type checkers see it."""

    line: int
    target: str
    typing_only: bool


def part_of(name: str) -> str:
    """The first name below `engine`; empty for `engine` itself."""
    return name.split(".")[1] if "." in name else ""


def load_modules(root: Path) -> list[Module]:
    """Every Python file of the package `engine` in `root`."""
    modules = []
    for path in sorted((root / "engine").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(name, is_package, ast.parse(path.read_text(encoding="utf-8"), str(path))))
    return modules


def is_type_checking(node: ast.AST) -> bool:
    """Whether `node` is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def walk_imports(node: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement below `node`, at any depth, and whether only type checkers run it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, typing_only
        elif isinstance(child, ast.If) and is_type_checking(child):
            for statement in child.body:
                yield from walk_imports(ast.Module([statement], []), typing_only=True)
            for statement in child.orelse:
                yield from walk_imports(ast.Module([statement], []), typing_only)
        else:
            yield from walk_imports(child, typing_only)


def absolute(module: Module, statement: ast.ImportFrom) -> str:
    """The dotted name after `from`, with leading dots resolved."""
    if not statement.level:
        return statement.module or ""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    package = package[: len(package) - (statement.level - 1)]
    return ".".join([*package, *([statement.module] if statement.module else [])])


def imports_of(module: Module, known: frozenset[str]) -> Iterator[Import]:
    """What `module` imports; `from package import name` counts as the module of that name if there is one."""
    for statement, typing_only in walk_imports(module.tree):
        if isinstance(statement, ast.Import):
            targets = [alias.name for alias in statement.names]
        else:
            source = absolute(module, statement)
            longer = [f"{source}.{alias.name}" for alias in statement.names]
            targets = [name if name in known or name == "engine._codec" else source for name in longer]
        for target in targets:
            yield Import(statement.lineno, target, typing_only)


def all_imports(root: Path) -> Iterator[tuple[Module, Import]]:
    """Each import of each module of the engine in `root`."""
    modules = load_modules(root)
    known = frozenset(module.name for module in modules)
    for module in modules:
        for imported in imports_of(module, known):
            yield module, imported


def forbidden_edges(root: Path) -> list[str]:
    """Imports from one part of the engine into another that the table does not allow; typing-only ones count.

    The package `engine` itself may be imported (its place on disk is of use); who takes its public names from inside makes a cycle.
    """
    found = []
    for module, imported in all_imports(root):
        if imported.target.split(".")[0] != "engine" or module.part in UNLAYERED:
            continue
        target = part_of(imported.target)
        if target not in {"", module.part} and target not in MAY_IMPORT.get(module.part, frozenset()):
            found.append(f"{module.name}:{imported.line} may not import {imported.target}")
    return found


def unplaced_parts(root: Path) -> list[str]:
    """Parts of the engine that the table does not know: a new one needs a place in the order first."""
    parts = {module.part for module in load_modules(root)}
    return [f"engine.{part} has no place in the layering" for part in sorted(parts - MAY_IMPORT.keys() - UNLAYERED)]


def misplaced_io(root: Path) -> list[str]:
    """Trio outside the parts that may know it, and clocks, sockets or threads in the sans-IO core."""
    found = []
    for module, imported in all_imports(root):
        library = imported.target.split(".")[0]
        misplaced_trio = library.startswith(("trio", "quart_trio")) and module.part not in KNOWS_TRIO
        if misplaced_trio or (library in NOT_IN_THE_CORE and module.part in CORE):
            found.append(f"{module.name}:{imported.line} may not import {imported.target}")
    return found


def import_cycles(root: Path) -> list[str]:
    """Modules that import each other when run, however long the way round; imports inside functions count."""
    graph: dict[str, set[str]] = {}
    for module, imported in all_imports(root):
        if not imported.typing_only and imported.target != module.name:
            graph.setdefault(module.name, set()).add(imported.target)
    reached = {name: reachable(graph, name) for name in graph}
    return [f"{name} imports itself through {step}" for name in sorted(graph) for step in sorted(graph[name])
            if name in reached.get(step, set())]  # fmt: skip


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All nodes that a walk from `start` can come to."""
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        for target in graph.get(ahead.pop(), set()) - reached:
            reached.add(target)
            ahead.append(target)
    return reached


def modules_without_subject(root: Path) -> list[str]:
    """Files named after no idea."""
    names = [module.name for module in load_modules(root)]
    return [f"{name} says nothing about its subject" for name in names if name.rpartition(".")[2] in WITHOUT_SUBJECT]


def makes_container(value: ast.expr | None) -> bool:
    """Whether an expression makes something mutable."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in CONTAINER_MAKERS
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def is_read_only(annotation: ast.expr | None) -> bool:
    """Whether an annotation keeps type checkers' users from changing the value: `Final`, `Mapping[...]` and the like."""
    if annotation is None:
        return False
    outermost = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return ast.unparse(outermost).rpartition(".")[2] in READ_ONLY


def mutable_module_state(root: Path) -> list[str]:
    """Containers at module level that are not read-only constants, and `global` anywhere."""
    found = []
    for module in load_modules(root):
        nodes = [node for node in ast.walk(module.tree) if isinstance(node, ast.Global)]
        found += [f"{module.name}:{node.lineno} changes a module's variable" for node in nodes]
        for line, name, annotation in module_containers(module.tree):
            constant = name.isupper() and is_read_only(annotation)
            if name != "__all__" and not constant:
                found.append(f"{module.name}:{line} {name} is mutable and neither UPPERCASE nor Final")
    return found


def module_containers(tree: ast.Module) -> Iterator[tuple[int, str, ast.expr | None]]:
    """Each name bound to a new container at module level: its line, the name and its annotation."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and makes_container(statement.value):
            for target in statement.targets:
                yield statement.lineno, ast.unparse(target), None
        elif isinstance(statement, ast.AnnAssign) and makes_container(statement.value):
            yield statement.lineno, ast.unparse(statement.target), statement.annotation


def endless_functions(root: Path) -> list[str]:
    """Functions of more than sixty lines, from `def` to their last line."""
    found = []
    for module in load_modules(root):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    found.append(f"{module.name}:{node.lineno} {node.name} has {lines} lines")
    return found


Check = Callable[[Path], list[str]]
CHECKS: tuple[Check, ...] = (
    forbidden_edges,
    unplaced_parts,
    misplaced_io,
    import_cycles,
    modules_without_subject,
    mutable_module_state,
    endless_functions,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_engine_keeps_to_its_architecture(check: Check) -> None:
    assert load_modules(ROOT), "no engine to check"
    assert check(ROOT) == []


LONG_FUNCTION = "def endless():\n" + "    pass\n" * MOST_LINES_OF_A_FUNCTION

FAULTS: tuple[tuple[Check, dict[str, str]], ...] = (
    (forbidden_edges, {"wire/twiml.py": "from engine.audio import g711\n"}),
    (forbidden_edges, {"audio/frame.py": "import engine.wire.twiml\n"}),
    (forbidden_edges, {"call/turns.py": "from ..runtime.clock import FrameClock\n"}),
    (forbidden_edges, {"call/__init__.py": "from .. import web\n", "web/__init__.py": ""}),
    (forbidden_edges, {"simulator/twilio/peer.py": "from ...wire import twilio\n"}),
    (forbidden_edges, {"web/app.py": "def serve():\n    from engine.runtime import service\n"}),
    (forbidden_edges, {"errors.py": "from engine.settings import Settings\n"}),
    (
        forbidden_edges,
        {"wire/late.py": "import typing\nif typing.TYPE_CHECKING:\n    from engine.call.turns import Turn\n"},
    ),
    (forbidden_edges, {"wire/fast.py": "from engine import _codec\n"}),
    (unplaced_parts, {"plugins/registry.py": ""}),
    (misplaced_io, {"call/pacer.py": "import trio\n"}),
    (misplaced_io, {"wire/socket.py": "from trio_websocket import open_websocket\n"}),
    (misplaced_io, {"settings.py": "from trio.lowlevel import wait_readable\n"}),
    (misplaced_io, {"call/pacer.py": "def now():\n    import time\n"}),
    (misplaced_io, {"wire/peer.py": "from socket import socket\n"}),
    (import_cycles, {"call/a.py": "from engine.call import b\n", "call/b.py": "import engine.call.a\n"}),
    (
        import_cycles,
        {"call/a.py": "from . import b\n", "call/b.py": "from .c import x\n", "call/c.py": "from .a import y\n"},
    ),
    (modules_without_subject, {"call/utils.py": ""}),
    (modules_without_subject, {"wire/base/__init__.py": ""}),
    (mutable_module_state, {"call/seen.py": "seen = {}\n"}),
    (mutable_module_state, {"call/seen.py": "SEEN = []\n"}),
    (mutable_module_state, {"call/seen.py": "SEEN: list[int] = []\n"}),
    (mutable_module_state, {"call/seen.py": "import collections\n_seen: object = collections.deque()\n"}),
    (mutable_module_state, {"call/count.py": "calls = 0\ndef add():\n    global calls\n    calls += 1\n"}),
    (endless_functions, {"call/long.py": LONG_FUNCTION}),
)

SOUND_TREE = {
    "__init__.py": "from engine.runtime.service import serve\n__all__ = ['serve']\n",
    "errors.py": "",
    "audio/__init__.py": "",
    "audio/g711.py": "from engine import _codec\nfrom engine._codec import lib\nfrom ..errors import EngineError\n",
    "wire/twiml.py": "from collections.abc import Mapping\nNAMES: Mapping[str, str] = {'a': 'b'}\n",
    "call/__init__.py": "",
    "call/turns.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .pacer import Pacer\n",
    "call/pacer.py": "from .turns import Turn\nfrom ..audio import g711\nfrom . import turns\n",
    "runtime/service.py": "import time\nimport trio\nfrom engine.web.app import App\nfrom engine.call.pacer import Pacer\n",
    "web/app.py": "import trio\nfrom typing import Final\n_ROUTES: Final = {'/': 1}\n",
    "cli.py": "def main():\n    from engine.demo import command\n",
    "demo/command.py": "from engine.simulator import twilio\n" + LONG_FUNCTION[: -len("    pass\n")],
}


def plant(root: Path, files: Mapping[str, str]) -> None:
    """Write `files` (path below `engine` -> source) into `root`."""
    for name, source in files.items():
        path = root / "engine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_tree_passes(tmp_path: Path, check: Check) -> None:
    plant(tmp_path, SOUND_TREE)
    assert check(tmp_path) == []


@pytest.mark.parametrize(("check", "files"), FAULTS, ids=[f"{check.__name__}-{next(iter(fs))}" for check, fs in FAULTS])
def test_a_fault_in_a_sound_tree_is_found(tmp_path: Path, check: Check, files: dict[str, str]) -> None:
    plant(tmp_path, SOUND_TREE | files)
    assert check(tmp_path) != []
