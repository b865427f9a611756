"""Conditions on the columns of a row, as in `score_ratio >= 2 and lang == "en"`: parsed by Python, never executed.

Comparisons (== != < <= > >=), `in` and `not in` a list of values, `and`, `or`, `not`, `is null` and `is not null`;
strings, numbers, true, false and null; len(x), lower(x), contains(x, "text"), startswith(x, "text") and endswith(x,
"text"). A column is a name, with dots for nested ones; a name with other characters goes into backticks: `my column`.

As in SQL, a comparison with null is null, and so is a condition that cannot be decided without the null. A value of
another type than the condition expects is an error, never false.
"""

import ast
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dpo_data.errors import UsageError

#: Returns the value of a column, or None if it is null.
ValueOf = Callable[[str], Any]
#: Evaluates a part of an expression.
Evaluate = Callable[[ValueOf], Any]

MAX_DEPTH = 100
CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
FUNCTIONS = {"len": 1, "lower": 1, "contains": 2, "startswith": 2, "endswith": 2}
GRAMMAR = (
    'An expression compares columns with values: score >= 2 and lang == "en", status in ("a", "b"), '
    'rank is not null, not flagged, contains(prompt, "text"), len(chosen) < 2000.\n'
    "  A name with spaces or other characters goes into backticks: `my column` > 1."
)
#: Spellings of other languages -> what to write.
OTHER_SPELLINGS = {"&&": "and", "||": "or", "&": "and", "|": "or", "~": "not", "!": "not", "=": "=="}

_TOKEN = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`\n]+)`""", re.DOTALL)


@dataclass(frozen=True)
class Expression:
    """A condition on the columns of a row; travels to worker processes as its text.

    Attributes:
        text: as the user wrote it.
        columns: the columns it reads, in order.
        evaluate: returns its value.
    """

    text: str
    columns: tuple[str, ...]
    evaluate: Evaluate

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_expression, (self.text,)

    def holds(self, value_of: ValueOf) -> bool | None:
        """Return True if the condition holds for a row, False if it does not, and None if a null decides.

        Raises: UsageError: a column has a value of a type that the condition does not expect.
        """
        value = _unmissing(self.evaluate(value_of))
        return None if value is None else _boolean(value, self.text)


@lru_cache(maxsize=32)
def parse_expression(text: str) -> Expression:
    """Return the condition that a text describes.

    >>> parse_expression("score >= 2 and `my column` == 'a'").columns
    ('score', 'my column')
    >>> parse_expression("score >= 2").holds({"score": 3}.get)
    True

    Raises: UsageError: the text is not an expression.
    """
    quoted: dict[str, str] = {}

    def placeholder(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[0]
        name = f"_quoted_{len(quoted)}_"
        quoted[name] = found[2]
        return f" {name} "

    source = _TOKEN.sub(placeholder, text).replace("\n", " ").strip()
    unquoted = _TOKEN.sub("", text)
    try:
        with warnings.catch_warnings(action="ignore"):  # a backslash in a text that escapes nothing
            tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise _wrong(f"it cannot be read: {error.msg}", unquoted) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise _wrong("it cannot be read") from error
    if _depth(tree) > MAX_DEPTH:
        raise _wrong("it is nested too deeply")
    compiler = _Compiler(unquoted, quoted)
    evaluate = compiler.compile(tree)
    if not compiler.columns:
        raise _wrong("it names no column")
    return Expression(text, tuple(dict.fromkeys(compiler.columns)), evaluate)


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def row_values(row: Mapping[str, Any], lookup: Callable[[Mapping[str, Any], str], Any], *, cells: bool) -> ValueOf:
    """Return the values of a row's columns.

    Args:
        row: the row.
        lookup: finds the value at a path.
        cells: True for a table of strings, such as a CSV file: an empty cell is null, and a cell is compared with a
            number, true or false as what it spells.
    """
    if not cells:
        return lambda path: lookup(row, path)

    def value_of(path: str) -> Any:
        value = lookup(row, path)
        return (_Cell(value) if value else None) if isinstance(value, str) else value

    return value_of


class _Cell(str):
    """A cell of a table of strings, which may spell a number, true or false."""

    __slots__ = ()


class _Compiler:
    """Turns the syntax tree of an expression into functions; only what is listed here is part of the language."""

    def __init__(self, unquoted: str, quoted: Mapping[str, str]) -> None:
        self.columns: list[str] = []
        self._unquoted = unquoted
        self._quoted = quoted

    def compile(self, node: ast.expr) -> Evaluate:
        """Return the function that evaluates a node."""
        match node:
            case ast.BoolOp(op=op, values=values):
                return _connected([self._condition(value) for value in values], decisive=isinstance(op, ast.Or))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _negated(self._condition(operand))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                negative = -value
                return lambda _: negative
            case ast.Compare():
                return self._comparisons(node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                if len(arguments) != FUNCTIONS[name]:
                    raise _wrong(f"{name} takes {FUNCTIONS[name]} argument{'s' * (FUNCTIONS[name] > 1)}")
                return _function(name, [self.compile(argument) for argument in arguments], ast.unparse(node))
            case ast.Constant(value=str() | bool() | int() | float() | None as value):
                return lambda _: value
            case ast.Name(id=name) if name.lower() in CONSTANTS:
                return lambda _: CONSTANTS[name.lower()]
            case ast.Name() | ast.Attribute():
                return self._column(node)
        raise self._unknown(node)

    def _column(self, node: ast.expr) -> Evaluate:
        parts: list[str] = []
        current = node
        while isinstance(current, ast.Attribute):
            parts.append(current.attr)
            current = current.value
        if not isinstance(current, ast.Name):
            raise self._unknown(node)
        path = ".".join(self._quoted.get(part, part) for part in (current.id, *reversed(parts)))
        self.columns.append(path)
        return lambda value_of: value_of(path)

    def _condition(self, node: ast.expr) -> Evaluate:
        evaluate, shown = self.compile(node), self._shown(node)

        def condition(value_of: ValueOf) -> bool | None:
            value = _unmissing(evaluate(value_of))
            return None if value is None else _boolean(value, shown)

        return condition

    def _comparisons(self, node: ast.Compare) -> Evaluate:
        operands = [node.left, *node.comparators]
        parts = [
            self._comparison(left, operator, right)
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False)
        ]
        return parts[0] if len(parts) == 1 else _connected(parts, decisive=False)

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Evaluate:
        shown = f"{self._shown(left)} and {self._shown(right)}"
        if self._is_null(right) or self._is_null(left):
            if not isinstance(operator, ast.Is | ast.IsNot | ast.Eq | ast.NotEq):
                raise _wrong("null is compared with `is null` or `is not null`")
            of_null = self.compile(left if self._is_null(right) else right)
            expected = isinstance(operator, ast.Is | ast.Eq)
            return lambda value_of: (_unmissing(of_null(value_of)) is None) == expected
        if isinstance(operator, ast.Is | ast.IsNot):
            raise _wrong("`is` compares with null alone; compare values with ==")
        first = self.compile(left)
        if isinstance(operator, ast.In | ast.NotIn):
            return _member(first, self._members(right), shown, expected=isinstance(operator, ast.In))
        second = self.compile(right)
        compare, ordered = _COMPARISONS[type(operator)], not isinstance(operator, ast.Eq | ast.NotEq)

        def comparison(value_of: ValueOf) -> bool | None:
            pair = _comparable(first(value_of), second(value_of), shown, ordered=ordered)
            return None if pair is None else compare(*pair)

        return comparison

    def _members(self, node: ast.expr) -> Evaluate:
        """Return the function that gives what is on the right of `in`: the values of a list, or a column's."""
        if not isinstance(node, ast.Tuple | ast.List | ast.Set):
            return self.compile(node)
        if any(self._is_null(item) for item in node.elts):
            raise _wrong("null is compared with `is null` or `is not null`")
        items = [self.compile(item) for item in node.elts]
        return lambda value_of: [item(value_of) for item in items]

    def _unknown(self, node: ast.expr) -> UsageError:
        return _wrong(f"`{self._shown(node)}` is not part of an expression", self._unquoted)

    def _is_null(self, node: ast.expr) -> bool:
        name = node.id.lower() if isinstance(node, ast.Name) else ""
        is_constant = isinstance(node, ast.Constant) and node.value is None
        return is_constant or (name in CONSTANTS and CONSTANTS[name] is None)

    def _shown(self, node: ast.expr) -> str:
        """Return a part of the expression as the user wrote it, but for spaces and quotes."""
        shown = ast.unparse(node)
        for name, column in self._quoted.items():
            shown = shown.replace(name, f"`{column}`")
        return shown


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def _connected(parts: Iterable[Evaluate], *, decisive: bool) -> Evaluate:
    """Return conditions connected by `or` (True decides) or `and` (False decides)."""
    parts = list(parts)

    def connected(value_of: ValueOf) -> bool | None:
        values = [part(value_of) for part in parts]
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    return connected


def _negated(condition: Evaluate) -> Evaluate:
    def negated(value_of: ValueOf) -> bool | None:
        value = condition(value_of)
        return None if value is None else not value

    return negated


def _member(item_of: Evaluate, members_of: Evaluate, shown: str, *, expected: bool) -> Evaluate:
    def member(value_of: ValueOf) -> bool | None:
        item, members = _unmissing(item_of(value_of)), _unmissing(members_of(value_of))
        if item is None or members is None:
            return None
        if isinstance(members, str):
            if not isinstance(item, str):
                raise _type_error(f"{shown}: only a text can be in a text")
            return (item in members) == expected
        if not isinstance(members, list):
            raise _type_error(f"{shown}: {kind(members)} is not a list or a text")
        pairs = [_comparable(item, other, shown) for other in members]
        if any(pair is not None and pair[0] == pair[1] for pair in pairs):
            return expected
        return None if None in pairs else not expected

    return member


def _function(name: str, arguments: list[Evaluate], shown: str) -> Evaluate:
    def call(value_of: ValueOf) -> Any:
        values = [_unmissing(argument(value_of)) for argument in arguments]
        if None in values:
            return None
        if name == "len" and isinstance(values[0], list):
            return len(values[0])
        if not all(isinstance(value, str) for value in values):
            kinds = " and ".join(kind(value) for value in values)
            raise _type_error(f"{shown} takes text, not {kinds}")
        text, *others = values
        return _TEXT_FUNCTIONS[name](text, *others)

    return call


_TEXT_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "lower": str.lower,
    "contains": lambda text, part: part in text,
    "startswith": lambda text, start: text.startswith(start),
    "endswith": lambda text, end: text.endswith(end),
}


def _unmissing(value: Any) -> Any:
    """Return a value, or None for what tables use as null: a number that is not one."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _comparable(a: Any, b: Any, shown: str, *, ordered: bool = False) -> tuple[Any, Any] | None:
    """Return two values of the same type, or None if one of them is null.

    Raises: UsageError: they cannot be compared, or not by their order.
    """
    a, b = _unmissing(a), _unmissing(b)
    if a is None or b is None:
        return None
    if isinstance(a, _Cell) and isinstance(b, _Cell):
        numbers = _spelled(a, 0), _spelled(b, 0)
        if ordered or not any(isinstance(number, str) for number in numbers):
            a, b = numbers
    elif isinstance(a, _Cell) and not isinstance(b, str):
        a = _spelled(a, b)
    elif isinstance(b, _Cell) and not isinstance(a, str):
        b = _spelled(b, a)
    kinds = {kind(a), kind(b)}
    if len(kinds) > 1 or not kinds <= ({"a text", "a number"} if ordered else {"a text", "a number", "true or false"}):
        how = "compared by their order" if ordered else "compared"
        raise _type_error(f"{shown} cannot be {how}: one is {kind(a)}, the other {kind(b)}")
    return a, b


def _spelled(cell: str, other: Any) -> Any:
    """Return what a cell spells, if it is of the type of the other value; else the cell."""
    if isinstance(other, bool):
        return {"true": True, "false": False}.get(cell.strip().lower(), cell)
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell


def _boolean(value: Any, shown: str) -> bool:
    if isinstance(value, _Cell):
        value = _spelled(value, True)
    if not isinstance(value, bool):
        raise _type_error(f"{shown} is {kind(value)}, not true or false")
    return value


def kind(value: Any) -> str:
    """Return the type of a value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else type(value).__name__


def _type_error(message: str) -> UsageError:
    return UsageError(f"{message}.")


def _wrong(message: str, text: str = "") -> UsageError:
    other = next((spelling for spelling in OTHER_SPELLINGS if re.search(_alone(spelling), text)), None)
    advice = f" Write `{OTHER_SPELLINGS[other]}` instead of `{other}`." if other else ""
    return UsageError(f"{message}.{advice}\n  {GRAMMAR}")


def _alone(spelling: str) -> str:
    return r"(?<![=<>!])=(?!=)" if spelling == "=" else re.escape(spelling) + "(?!=)"
