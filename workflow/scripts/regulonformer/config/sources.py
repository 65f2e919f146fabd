"""Which modules of the package a script runs, so that a change of code reruns exactly what it feeds."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = "regulonformer"


def modules_of(script, root) -> list[str]:
    """List the package's modules, and other scripts, that a script imports, directly or through others.

    Imports inside functions count too. A package's `__init__` counts itself, not what it loads by name later.

    Parameters
    ----------
    script
        Python file of a rule.
    root
        Folder that holds the package.

    Returns
    -------
    list of str
        Sorted paths of module files.
    """
    root = Path(root)
    found, waiting = set(), [Path(script)]
    while waiting:
        file = waiting.pop()
        for module in _imports(file, root, file.stat().st_mtime_ns):
            if module not in found:
                found.add(module)
                waiting.append(module)
    return sorted(map(str, found))


# Most rules share most modules, and parsing them is most of what a dry-run takes.
@cache
def _imports(file: Path, root: Path, changed_ns: int) -> frozenset[Path]:
    """Files of the package that one file, last changed at some time, names in its import statements."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from package import thing`: the thing may be a module of its own.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            modules |= _files(name, root)
    return frozenset(modules)


def _files(name: str, root: Path) -> set[Path]:
    """The file of a module and the `__init__` of every package above it; or another script of the same folder."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        script = root / f"{parts[0]}.py"
        return {script} if len(parts) == 1 and script.is_file() else set()
    files = {root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)}
    files.add(root.joinpath(*parts).with_suffix(".py"))
    return {file for file in files if file.is_file()}
