"""Values in the text of a config, read without running the text."""

import ast
from collections.abc import Collection, Mapping
from typing import Any

# a config has some ten thousand characters; longer text is not parsed
MAX_CONFIG = 10**6
# value of an expression that is not a literal
UNKNOWN = object()


def read_literals(text: str, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return the values that Python text assigns to names, without running the text.

    Args:
        text (str): A config in the format in which MMEngine writes it: assignments of constants,
            lists, tuples, dicts and calls of ``dict``. Other expressions have the value
            :data:`UNKNOWN`.
        names (Collection[str], optional): Names to read. Defaults to all names.

    Returns:
        dict[str, Any]: The values by name; empty if the text is not Python.
    """
    try:
        statements = ast.parse(text).body if len(text) <= MAX_CONFIG else []
        return {
            statement.targets[0].id: _literal(statement.value)
            for statement in statements
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and (names is None or statement.targets[0].id in names)
        }
    # the text may be anything
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}


def stored_config(checkpoint: Mapping) -> dict[str, Any]:
    """Return the config that MMEngine stored in a checkpoint, or an empty dict.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    return read_literals(text) if isinstance(text, str) else {}


def _literal(node: ast.AST | None) -> Any:
    """Return the value of a literal or of a call of dict, with UNKNOWN for everything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        return -value if isinstance(value, int | float) else UNKNOWN
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = [_literal(key) for key in node.keys]
        return dict(zip(keys, map(_literal, node.values)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    return UNKNOWN
