"""Build a dataset from a recipe: one prepared folder for each source and step, made again only when its key changes.

The key of a folder is the hash of its step, the version and options of the step, and the content of what it reads.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from filelock import FileLock, Timeout
from pydantic import Field

from dpo_data.conversion.convert import convert
from dpo_data.errors import DataError, PreparedError, TooManyInvalid, UsageError, argument, writing
from dpo_data.options import Progress, silent
from dpo_data.prepared.files import hash_file, hash_json
from dpo_data.prepared.manifest import Manifest, ManifestModel
from dpo_data.prepared.reader import is_prepared, open_prepared
from dpo_data.prepared.writer import write_json
from dpo_data.readers.inputs import find_inputs
from dpo_data.readers.locations import is_local
from dpo_data.shaping.mix import PartSpec, parse_part
from dpo_data.shaping.recipe import FILES, STEPS, Node, Recipe, read_recipe
from dpo_data.tokens.cache import tokenize

#: Changes when the same step with the same options writes other pairs.
BUILD_VERSION = 1
STATE = "build.json"
_LOCK = ".lock"
_COMMIT_LENGTH = 40


class BuiltFolder(ManifestModel):
    """A folder of a build."""

    name: str
    verb: str
    path: str
    action: Annotated[
        Literal["made", "unchanged", "to do"],
        Field(description="made by this run, left as it was, or what a run without dry_run would do."),
    ]
    reason: Annotated[str, Field(description="Why it was made, or is to do.")] = ""
    pairs: int | None = None
    content_hash: str | None = None


class BuildResult(ManifestModel):
    """Result of `dpo-data build`."""

    recipe: str
    output: str
    folders: list[BuiltFolder]
    tokens: Annotated[dict[str, str], Field(description="Folder to its token cache.")]


@dataclass
class _State:
    """Records of earlier runs: key and content of each folder, and hashes of raw files by path, size and time."""

    path: Path
    folders: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, output: Path) -> "_State":
        """Return the state in a folder; empty if there is none, or it is damaged, which makes everything again."""
        try:
            content = json.loads((output / STATE).read_bytes())
            return cls(output / STATE, dict(content["folders"]), dict(content["files"]))
        except (OSError, ValueError, LookupError, TypeError):
            return cls(output / STATE)

    def hash_of(self, path: Path) -> str:
        """Return the SHA-256 of a file, which is remembered until its size or time changes."""
        status = path.stat()
        known = self.files.get(str(path))
        if known is None or known[:2] != [status.st_size, status.st_mtime_ns]:
            self.files[str(path)] = [status.st_size, status.st_mtime_ns, hash_file(path)]
        return str(self.files[str(path)][2])

    def write(self) -> None:
        """Write the state."""
        write_json(self.path, {"folders": self.folders, "files": self.files})


def build(
    recipe: str | Path,
    *,
    dry_run: bool = False,
    workers: int = 1,
    progress: Progress = silent,
    on_folder: Callable[[BuiltFolder], None] = lambda folder: None,
) -> BuildResult:
    """Build the folders of a recipe, and tokenize those that it says.

    What did not change is not done again: a folder is made when its options, its step, or the content of what it reads
    changed. Local files are compared by their SHA-256; files on the Hub by the commit that `revision` names, and
    without one, as URLs, they are read again each time.

    Args:
        recipe: the YAML file.
        dry_run: only say what is to do.
        workers: number of processes.
        progress: called with the share of the rows of a step that are done, and their number.
        on_folder: called with each folder once it is done.

    Raises:
        UsageError: the recipe has an error, with its line; another run is building it.
        TooManyInvalid: a conversion was rejected.
        DataError: as the functions of the steps; the message begins with the recipe's line.
    """
    plan = read_recipe(recipe)
    if dry_run:
        return _Build(plan, _State.read(plan.output), workers, progress, on_folder).plan()
    with writing(plan.output):
        plan.output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(plan.output / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UsageError(f"{plan.output}: another run is building it.\n  Wait for it.") from error
    try:
        return _Build(plan, _State.read(plan.output), workers, progress, on_folder).run()
    finally:
        lock.release()


class _Build:
    """One run of a recipe."""

    def __init__(
        self,
        recipe: Recipe,
        state: _State,
        workers: int,
        progress: Progress,
        on_folder: Callable[[BuiltFolder], None],
    ) -> None:
        self._recipe = recipe
        self._state = state
        self._workers = workers
        self._progress = progress
        self._on_folder = on_folder
        self._hashes: dict[str, str | None] = {}
        self._paths: dict[str, Path] = {}

    def plan(self) -> BuildResult:
        """Return what a run would do."""
        return self._result([self._planned(node) for node in self._recipe.nodes])

    def run(self) -> BuildResult:
        """Make what is to do."""
        folders, tokens = [], {}
        for node in self._recipe.nodes:
            folder = self._planned(node)
            if folder.action == "to do":
                with self._at(node):
                    folder = self._made(node, folder)
            folders.append(folder)
            self._on_folder(folder)
        for name, (options, line) in self._recipe.tokenize.items():
            with self._at(Node(name, "tokenize", options, (), line)):
                cache = tokenize(self._paths[name], progress=self._progress, **self._tokenizer_options(options))
                tokens[name] = str(cache.path)
        return self._result(folders, tokens)

    def _result(self, folders: list[BuiltFolder], tokens: Mapping[str, str] | None = None) -> BuildResult:
        return BuildResult(
            recipe=str(self._recipe.path), output=str(self._recipe.output), folders=folders, tokens=dict(tokens or {})
        )

    def _planned(self, node: Node) -> BuiltFolder:
        """Return what is to do for a folder, and remember the content that its children read, if it is known."""
        with self._at(node):
            if node.verb == "prepared":
                path = self._file(str(node.options["prepared"]))
                manifest = open_prepared(path).manifest
                return self._remember(node, path, manifest, "unchanged")
            path = self._recipe.output / node.name
            self._paths[node.name] = path
            key, reason = self._key(node)
            known = self._state.folders.get(node.name, {})
            if key is not None and known.get("key") == key and (manifest_ := _finished(path, known)):
                return self._remember(node, path, manifest_, "unchanged")
        if key is not None:
            reason = "is new" if not known else "its options or what it reads changed"
            reason = reason if known.get("key") != key else "the folder is not as it was made"
        self._hashes[node.name] = None
        return BuiltFolder(name=node.name, verb=node.verb, path=str(path), action="to do", reason=reason)

    def _remember(
        self, node: Node, path: Path, manifest: Manifest, action: Literal["made", "unchanged"], reason: str = ""
    ) -> BuiltFolder:
        self._paths[node.name], self._hashes[node.name] = path, manifest.content_hash
        return BuiltFolder(
            name=node.name,
            verb=node.verb,
            path=str(path),
            action=action,
            reason=reason,
            pairs=manifest.pairs,
            content_hash=manifest.content_hash,
        )

    def _key(self, node: Node) -> tuple[str | None, str]:
        """Return the key of a folder; or None, and why it is made anyway."""
        parents = {name: self._hashes[name] for name, _ in node.parents}
        if unknown := [name for name, content in parents.items() if content is None]:
            return None, f"{unknown[0]} is made before"
        from dpo_data import __version__

        content: dict[str, Any] = {
            "version": [BUILD_VERSION, __version__],
            "verb": node.verb,
            "options": {name: value for name, value in node.options.items() if name not in (*FILES, "input")},
            "parents": [[name, amount, parents[name]] for name, amount in node.parents],
            "files": {
                name: [self._state.hash_of(self._file(file)) for file in _listed(node.options[name])]
                for name in FILES
                if name in node.options
            },
        }
        if node.verb == "convert" and not node.options.get("sample"):
            if "input" not in node.options:
                if len(str(node.options.get("revision", ""))) != _COMMIT_LENGTH:
                    return None, "it reads the Hub without a commit as revision"
            else:
                files = find_inputs(
                    [str(self._file(name)) if is_local(name) else name for name in _listed(node.options["input"])],
                    split=node.options.get("split"),
                    input_format=node.options.get("input_format"),
                    encoding=node.options.get("encoding"),
                    delimiter=node.options.get("delimiter"),
                )
                if remote := [file.location for file in files if file.size_bytes() is None]:
                    return None, f"{remote[0]} is not a local file"
                content["input"] = [
                    [file.label, file.split, self._state.hash_of(Path(file.location))] for file in files
                ]
        return hash_json(content), ""

    def _made(self, node: Node, planned: BuiltFolder) -> BuiltFolder:
        """Make a folder, and return it."""
        key, _ = self._key(node)
        path = self._paths[node.name]
        self._state.folders.pop(node.name, None)
        manifest = self._convert(node, path) if node.verb == "convert" else self._step(node, path)
        if manifest.status == "rejected":
            raise TooManyInvalid(
                f"{path}: was rejected: {manifest.quarantined:,} of {manifest.rows_read:,} rows are in quarantine.\n"
                f"  See {path / 'quarantine'}; fix the rows, or raise {argument('max_invalid')}."
            )
        if key is not None:
            self._state.folders[node.name] = {"key": key, "content_hash": manifest.content_hash}
        self._state.write()
        return self._remember(node, path, manifest, "made", planned.reason)

    def _convert(self, node: Node, path: Path) -> Manifest:
        options = {name: value for name, value in node.options.items() if name not in ("source", "input")}
        inputs = [str(self._file(name)) if is_local(name) else name for name in _listed(node.options.get("input", []))]
        return convert(
            node.options["source"],
            inputs,
            output=path,
            overwrite=is_prepared(path),
            workers=self._workers,
            progress=self._progress,
            **options,
        )

    def _step(self, node: Node, path: Path) -> Manifest:
        options: dict[str, Any] = {
            name: _mapped(value, self._file) if name in FILES else value for name, value in node.options.items()
        }
        if node.verb == "mix":
            parts = [parse_part(f"part{amount}") for _, amount in node.parents]
            options["parts"] = [
                PartSpec(self._paths[name], name, part.share, part.pairs)
                for (name, _), part in zip(node.parents, parts, strict=True)
            ]
        else:
            options["path"] = self._paths[node.parents[0][0]]
        return STEPS[node.verb](
            output=path, overwrite=is_prepared(path), workers=self._workers, progress=self._progress, **options
        )

    def _tokenizer_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options of `tokenize`, with paths that the recipe names."""
        tokenizer = options["tokenizer"]
        folder = self._file(str(tokenizer))
        given = {**options, "tokenizer": str(folder) if folder.exists() else tokenizer}
        if "chat_template" in given:
            given["chat_template"] = self._file(given["chat_template"]).read_text(encoding="utf-8")
        return given

    def _file(self, name: str) -> Path:
        """Return the path of a file that the recipe names: relative ones are relative to the recipe."""
        return self._recipe.path.parent / Path(name).expanduser()

    @contextmanager
    def _at(self, node: Node) -> Iterator[None]:
        """Put the line of the recipe before the messages of errors."""
        try:
            yield
        except TooManyInvalid as error:
            raise TooManyInvalid(f"{self._place(node, None)}: {error.text}") from error
        except PreparedError as error:
            raise PreparedError(f"{self._place(node, None)}: {error.text}") from error
        except UsageError as error:
            raise UsageError(f"{self._place(node, error.option)}: {error.message}") from error
        except DataError as error:
            self._refuse(node, error)

    def _refuse(self, node: Node, error: DataError) -> NoReturn:
        refusal = DataError(f"{self._place(node, None)}: {error.text}")
        refusal.exit_code = error.exit_code
        raise refusal from error

    def _place(self, node: Node, option: str | None) -> str:
        """Return the line and the key of a folder, or of one of its options."""
        section = {"convert": "sources", "prepared": "sources", "tokenize": "tokenize"}.get(node.verb, "steps")
        line = node.lines.get(option or "", node.line)
        return f"{self._recipe.path}:{line}: {section}.{node.name}{f'.{option}' if option else ''}"


def _finished(path: Path, known: Mapping[str, str]) -> Manifest | None:
    """Return the manifest of a folder that an earlier run made, or None if it is gone or another one."""
    try:
        manifest = open_prepared(path).manifest
    except PreparedError:
        return None
    return manifest if manifest.content_hash == known.get("content_hash") else None


def _listed(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _mapped(value: Any, function: Callable[[str], Path]) -> Any:
    return [function(str(each)) for each in value] if isinstance(value, list) else function(str(value))
