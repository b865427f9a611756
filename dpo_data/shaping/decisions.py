"""Decisions about single pairs: lines of a file, and what they come to for each pair."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from dpo_data.errors import InputError, UsageError, reading, writing
from dpo_data.records import Record

Action = Literal["drop", "flip", "edit", "tag", "keep"]
ACTIONS = get_args(Action)
#: Actions that cannot be combined with another one for the same pair.
_ALONE = ("drop", "keep")


class Decision(Record):
    """A decision about all pairs with an id. `validate --findings` writes such lines without an action, to fill in."""

    id: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{32}$", description="The id of the pair in the folder; null for a raw row."),
    ]
    action: Annotated[
        Action | None,
        Field(
            description="drop: leave the pair out; flip: swap chosen and rejected; edit: replace a text; tag: add to "
            "the column tags; keep: leave the pair as it is, and protect it from --drop-findings. Null: undecided."
        ),
    ] = None
    field: Annotated[
        Literal["prompt", "chosen", "rejected"] | None,
        Field(description="The text that an edit replaces; of messages, the content of the last one."),
    ] = None
    text: Annotated[str | None, Field(description="The new text of an edit, or the tag.")] = None
    note: Annotated[str | None, Field(description="Anything worth remembering.")] = None
    by: Annotated[str, Field(description="Who decided.")] = ""
    time: Annotated[str | None, Field(description="When, in ISO 8601.")] = None
    code: Annotated[str | None, Field(description="Of a finding: the code of the check.")] = None
    severity: Annotated[str | None, Field(description="Of a finding.")] = None
    origin: Annotated[str | None, Field(description="Of a finding: file:line of the raw row.")] = None
    message: Annotated[str | None, Field(description="Of a finding: what was found.")] = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if self.action is not None and self.id is None:
            raise ValueError("an action needs the id of a pair")
        if self.action == "edit" and (self.field is None or self.text is None):
            raise ValueError("an edit needs field and text")
        if self.action == "tag" and (not self.text or not self.text.strip() or "," in self.text):
            raise ValueError("a tag needs a text without a comma")
        if self.action != "edit" and self.field is not None:
            raise ValueError(f"{self.action or 'a line without an action'} has no field")
        if self.action not in ("edit", "tag") and self.text is not None:
            raise ValueError(f"{self.action or 'a line without an action'} has no text")
        return self


@dataclass
class Verdict:
    """The combined decisions of one person, or of all, about one pair.

    Attributes:
        action: drop, flip or keep, with its line; None if neither.
        edits: field -> new text, with its line.
        tags: tags to add.
        by: who decided.
    """

    action: tuple[Action, int] | None = None
    edits: dict[str, tuple[str, int]] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    by: dict[str, None] = field(default_factory=dict)

    def add(self, decision: Decision, line: int) -> None:
        """Add a later decision of the same person, which replaces those that it contradicts."""
        self.by[decision.by] = None
        if decision.action == "tag" and decision.text is not None:
            self.tags[decision.text.strip()] = None
        elif decision.action == "edit" and decision.field is not None and decision.text is not None:
            self.edits[decision.field] = decision.text, line
            if self.action is not None and self.action[0] in _ALONE:
                self.action = None
        elif decision.action is not None:
            self.action = decision.action, line
            if decision.action in _ALONE:
                self.edits = {}

    def conflict(self, other: "Verdict") -> tuple[int, int] | None:
        """Return the lines of two decisions that disagree, or None."""
        for mine, theirs in ((self, other), (other, self)):
            if mine.action is not None and mine.action[0] in _ALONE and theirs.edits:
                return mine.action[1], next(iter(theirs.edits.values()))[1]
        if self.action is not None and other.action is not None and self.action[0] != other.action[0]:
            return self.action[1], other.action[1]
        for name in self.edits.keys() & other.edits.keys():
            if self.edits[name][0] != other.edits[name][0]:
                return self.edits[name][1], other.edits[name][1]
        return None

    def merge(self, other: "Verdict") -> None:
        """Add what another person decided, which agrees."""
        self.action = self.action or other.action
        self.edits |= other.edits
        self.tags |= other.tags
        self.by |= other.by


def read_decisions(path: Path) -> Iterator[tuple[int, Decision]]:
    """Yield the number of each line of a file, from 1, and its decision; blank lines are skipped.

    Raises: InputError: the file cannot be read, or a line is not a decision.
    """
    with reading(path), path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, Decision.model_validate_json(line)
                except ValidationError as error:
                    detail = error.errors(include_url=False)[0]
                    place = ".".join(map(str, detail["loc"]))
                    reason = detail["msg"].removeprefix("Value error, ")
                    raise InputError(
                        f"{path}:{number}: is not a decision: {f'{place}: ' if place else ''}{reason}.\n"
                        "  See the schema `decision` of dpo-data schema."
                    ) from error


def append_decision(path: Path, decision: Decision) -> None:
    """Append a line to a file of decisions, which need not exist.

    Raises: UsageError: the file cannot be written.
    """
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(decision.model_dump_json(exclude_none=True) + "\n")


def verdicts_of(path: Path, decisions: Iterable[tuple[int, Decision]]) -> dict[str, Verdict]:
    """Return id -> what the decisions come to.

    Of one person, a later decision replaces an earlier one that it contradicts: drop and keep replace everything, an
    edit replaces the edit of the same field. A flip and edits of several fields add up, and so do tags.

    Args:
        path: of the file, for messages.
        decisions: the number of each line, and its decision.

    Raises: UsageError: two persons disagree, or nothing is decided.
    """
    by_person: dict[str, dict[str, Verdict]] = {}
    for line, decision in decisions:
        if decision.id is not None and decision.action is not None:
            by_person.setdefault(decision.id, {}).setdefault(decision.by, Verdict()).add(decision, line)
    if not by_person:
        raise UsageError(
            f"{path}: no line has an action.\n  Add one to each pair that you decide: {', '.join(ACTIONS)}."
        )
    merged: dict[str, Verdict] = {}
    for id_, verdicts in by_person.items():
        for by, verdict in verdicts.items():
            if id_ not in merged:
                merged[id_] = verdict
                continue
            if lines := merged[id_].conflict(verdict):
                first, second = sorted(lines)
                raise UsageError(
                    f"{path}: lines {first} and {second} disagree about {id_} (the second is by {by or 'nobody'}).\n"
                    "  Remove one of them, or decide under one name: its last line counts."
                )
            merged[id_].merge(verdict)
    return merged
