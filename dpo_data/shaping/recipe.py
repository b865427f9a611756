"""Recipes: a whole build of a dataset in one YAML file, checked before anything is done."""

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from dpo_data.conversion.plan import ConvertArguments
from dpo_data.errors import UsageError, did_you_mean, reading
from dpo_data.options import parse_share
from dpo_data.prepared.manifest import Manifest
from dpo_data.shaping.apply import apply
from dpo_data.shaping.decontaminate import decontaminate
from dpo_data.shaping.dedup import dedup
from dpo_data.shaping.filter import filter as filter_
from dpo_data.shaping.mix import mix
from dpo_data.shaping.redact import redact
from dpo_data.shaping.sample import sample_pairs
from dpo_data.shaping.split import split
from dpo_data.tokens.cache import tokenize

#: Name of a step in a recipe -> its function.
STEPS: dict[str, Callable[..., Manifest]] = {
    "mix": mix,
    "dedup": dedup,
    "filter": filter_,
    "split": split,
    "apply": apply,
    "sample": sample_pairs,
    "decontaminate": decontaminate,
    "redact": redact,
}
#: Keys of a recipe.
SECTIONS = ("output", "sources", "steps", "tokenize")
#: Options that are files or lists of files, relative to the recipe.
FILES = ("against", "decisions")
#: Options that are shares, as in 5%.
SHARES = ("test", "size", "test_fraction", "max_invalid")
#: Arguments of functions that are not options of a recipe.
_NOT_OPTIONS = {"path", "parts", "output", "overwrite", "workers", "progress", "prepared", "cache_dir"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_AMOUNT = re.compile(r"([^:@]+)((?:[:@].*)?)")


@dataclass(frozen=True)
class Node:
    """A folder of the build.

    Attributes:
        name: of the folder.
        verb: "convert", "prepared" for a finished folder elsewhere, or a key of `STEPS`.
        options: of the function.
        parents: nodes that it reads; for a mix, each with its share or count as the user writes it.
        line: of the recipe.
        lines: line of each option.
    """

    name: str
    verb: str
    options: Mapping[str, Any]
    parents: tuple[tuple[str, str], ...] = ()
    line: int = 0
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A recipe of which every key is known.

    Attributes:
        path: of the file.
        output: folder of the build.
        nodes: its folders, parents before children.
        tokenize: node -> options of `tokenize`, with their line.
    """

    path: Path
    output: Path
    nodes: tuple[Node, ...]
    tokenize: Mapping[str, tuple[Mapping[str, Any], int]]


class _Lines(dict[Any, Any]):
    """A mapping of YAML with the lines of its keys."""

    def __init__(self) -> None:
        self.lines: dict[Any, int] = {}


def read_recipe(path: str | Path) -> Recipe:
    """Return the recipe in a file.

    Raises:
        InputError: the file cannot be read.
        UsageError: it is not YAML, or has a key, a step or a name that is not known; with the line.
    """
    path = Path(path)
    content = _load(path)
    checker = _Checker(path)
    checker.keys(content, SECTIONS, "")
    output = content.get("output", "build")
    if not isinstance(output, str):
        checker.fail(content.lines["output"], "output", "must be the name of a folder.")
    nodes = [*checker.sources(content.get("sources")), *checker.steps(content.get("steps"))]
    if not nodes:
        checker.fail(1, "sources", "is missing: a recipe has at least one source.")
    tokens = checker.tokens(content.get("tokenize"), {node.name for node in nodes})
    return Recipe(path, path.parent / output, tuple(nodes), tokens)


class _Checker:
    """Turns the content of a recipe into nodes; errors name the file, the line and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: set[str] = set()

    def fail(self, line: int, key: str, message: str) -> NoReturn:
        """Raise UsageError with the place in the recipe."""
        raise UsageError(f"{self._path}:{line}: {key}: {message}")

    def mapping(self, content: Any, line: int, key: str) -> _Lines:
        """Return a part of the recipe that must have keys."""
        if not isinstance(content, _Lines):
            self.fail(line, key, "must have keys and values.")
        return content

    def keys(self, content: _Lines, known: Collection[str], where: str) -> None:
        """Refuse keys that are not known."""
        for key, line in content.lines.items():
            if key not in known:
                names = ", ".join(known)
                suggestion = did_you_mean(str(key), known)
                self.fail(line, f"{where}{key}", f"there is no such key.\n  Keys: {names}.{suggestion}")

    def sources(self, content: Any) -> Iterator[Node]:
        """Yield the nodes of the sources."""
        known = ("source", "input", "prepared", *ConvertArguments.__annotations__)
        for name, line, each in self._named(content, "sources"):
            self.keys(each, known, f"sources.{name}.")
            options = self._options(each, f"sources.{name}")
            if "prepared" in each:
                if len(each) > 1:
                    self.fail(line, f"sources.{name}", "a prepared folder has no options: shape it in a step.")
                yield Node(name, "prepared", options, (), line, each.lines)
            else:
                if not isinstance(each.get("source"), str):
                    self.fail(line, f"sources.{name}.source", "is missing; see dpo-data sources.")
                yield Node(name, "convert", options, (), line, each.lines)

    def steps(self, content: Any) -> Iterator[Node]:
        """Yield the nodes of the steps."""
        for name, line, each in self._named(content, "steps"):
            verbs = [verb for verb in each if verb in STEPS]
            if len(verbs) != 1:
                options_of_all = dict.fromkeys(option for verb in STEPS for option in _options_of(verb))
                self.keys(each, (*STEPS, *options_of_all), f"steps.{name}.")
                choices = ", ".join(STEPS)
                self.fail(line, f"steps.{name}", f"name one step, as in dedup: NAME.\n  Steps: {choices}.")
            (verb,) = verbs
            self.keys(each, (verb, *_options_of(verb)), f"steps.{name}.")
            parents = self._parents(each[verb], each.lines[verb], f"steps.{name}.{verb}", verb)
            options = self._options(each, f"steps.{name}")
            del options[verb]
            for option, parameter in _options_of(verb).items():
                if parameter.default is parameter.empty and option not in options:
                    self.fail(line, f"steps.{name}.{option}", "is missing.")
            yield Node(name, verb, options, parents, line, each.lines)

    def tokens(self, content: Any, names: set[str]) -> dict[str, tuple[Mapping[str, Any], int]]:
        """Return the options of tokenization by node."""
        found: dict[str, tuple[Mapping[str, Any], int]] = {}
        for name, line, each in self._entries(content, "tokenize"):
            if name not in names:
                self.fail(line, f"tokenize.{name}", f"there is no such folder.{did_you_mean(name, names)}")
            self.keys(each, _options_of("tokenize"), f"tokenize.{name}.")
            if "tokenizer" not in each:
                self.fail(line, f"tokenize.{name}.tokenizer", "is missing.")
            options = self._options(each, f"tokenize.{name}")
            found[name] = options, line
        return found

    def _entries(self, content: Any, section: str) -> Iterator[tuple[str, int, _Lines]]:
        if content is None:
            return
        mapping = self.mapping(content, 1, section)
        for name, each in mapping.items():
            line = mapping.lines[name]
            yield str(name), line, self.mapping(each, line, f"{section}.{name}")

    def _named(self, content: Any, section: str) -> Iterator[tuple[str, int, _Lines]]:
        for name, line, each in self._entries(content, section):
            if not _NAME.fullmatch(name):
                self.fail(line, f"{section}.{name}", "a name has letters, digits, _, - and periods.")
            if name in self._names:
                self.fail(line, f"{section}.{name}", "two folders have this name.")
            yield name, line, each
            self._names.add(name)

    def _parents(self, content: Any, line: int, key: str, verb: str) -> tuple[tuple[str, str], ...]:
        texts = content if isinstance(content, list) and verb == "mix" else [content]
        parents = []
        for text in texts:
            found = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
            name, amount = (found[1], found[2]) if found and verb == "mix" else (text, "")
            if name not in self._names:
                suggestion = did_you_mean(str(name), self._names)
                self.fail(line, key, f"{name}: no source or earlier step has this name.{suggestion}")
            parents.append((name, amount))
        return tuple(parents)

    def _options(self, content: _Lines, key: str) -> dict[str, Any]:
        options = {}
        for name, value in content.items():
            line = content.lines[name]
            if name in SHARES and isinstance(value, str):
                try:
                    value = parse_share(name, value)
                except UsageError as error:
                    self.fail(line, f"{key}.{name}", f"{value}: {error.message}")
            options[name] = _plain(value)
        return options


def _options_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Return the options of a step, or of `tokenize`."""
    parameters = inspect.signature(tokenize if name == "tokenize" else STEPS[name]).parameters
    return {option: each for option, each in parameters.items() if option not in _NOT_OPTIONS}


def _plain(value: Any) -> Any:
    """Return a value of YAML as plain dicts and lists."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _load(path: Path) -> _Lines:
    """Return the content of a YAML file, with the lines of all keys."""
    import yaml

    class Loader(yaml.SafeLoader):
        """A loader that keeps lines and refuses a key that occurs twice."""

    def construct(loader: Any, node: Any) -> _Lines:
        found = _Lines()
        for key_node, value_node in node.value:
            key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise UsageError(f"{path}:{line}: {key}: a key must be a text; put it in quotes.")
            if key in found:
                raise UsageError(f"{path}:{line}: {key}: the key occurs twice.")
            found.lines[key] = line
            found[key] = loader.construct_object(value_node, deep=True)
        return found

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct)
    with reading(path):
        text = path.read_text(encoding="utf-8")
    try:
        content = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise UsageError(f"{path}:{line}: is not YAML: {getattr(error, 'problem', None) or error}.") from error
    if not isinstance(content, _Lines):
        raise UsageError(f"{path}: is not a recipe.\n  It has the keys {', '.join(SECTIONS)}.")
    return content
