"""Source: a raw dataset, its adapter, and what convert needs to know about both."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel, computed_field

from dpo_data.errors import RowError
from dpo_data.options import Axis, Form, SplitName
from dpo_data.records import PreferencePair, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row


@dataclass(frozen=True)
class SourceOptions:
    """Options of the user that an adapter sees.

    Attributes:
        form: the form of the pairs.
        mapping: field of the pair -> column, of --map.
        axis: the judgment that counts.
        labels: value of a label -> the side that it prefers, of --label-map.
    """

    form: Form = "text"
    mapping: FieldMap = field(default_factory=dict)
    axis: Axis | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass
class AdaptedGroup:
    """The result of adapting the rows of one group; rows are named by their position in the group.

    Attributes:
        responses: prompts with their responses, whose `row` is the row that each comes from.
        errors: row -> why it cannot be part of a pair.
        left_out: row -> why it is not a response, in one word.
    """

    responses: list[ScoredResponses] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)

    def without(self, rows: Mapping[int, str]) -> "AdaptedGroup":
        """Return the group with these rows left out, each for its reason."""
        responses = [
            scored.model_copy(update={"responses": [r for r in scored.responses if r.row not in rows]})
            for scored in self.responses
        ]
        errors = {row: error for row, error in self.errors.items() if row not in rows}
        return AdaptedGroup([scored for scored in responses if scored.responses], errors, self.left_out | dict(rows))


@dataclass(frozen=True)
class Grouping:
    """Rows that belong together, and the adapter that takes all rows of a group at once.

    Attributes:
        key: returns the value that the rows of a group share, or None for a row that is a group of its own.
        adapt: converts the rows of one group; pure.
        buffer_whole_file: True if rows of a group may be anywhere in a file, which is then held in memory. Otherwise
            they must be adjacent.
    """

    key: Callable[[Row, SourceOptions], Hashable]
    adapt: Callable[[Sequence[Row], SourceOptions], AdaptedGroup]
    buffer_whole_file: bool = False


class RowContents(NamedTuple):
    """Prompt and responses of a row: strings, or messages in any notation.

    The prompt of a transcript is in its responses; it is given as the blank line that they begin with.
    """

    prompt: Any
    responses: Sequence[Any]


class AdaptedColumns(NamedTuple):
    """Pairs in text form, and the position of the row of each, in ascending order."""

    rows: list[int]
    prompts: list[str]
    chosen: list[str]
    rejected: list[str]


@dataclass(frozen=True)
class Source:
    """A raw dataset and the conversion of its rows to pairs.

    Attributes:
        name: name on the command line.
        license: license of the data; "unknown" if only its owner knows.
        homepage: where the dataset is published; empty for the user's own files.
        direction: the rule that decides which response is preferred, in words.
        columns: columns that `adapt` requires of every row; a mapping may rename them.
        adapt: converts a raw row to a pair, or to scored responses for `dpo_data.pairing`, of which a list gives pairs
            of its own for each item; pure; raises RowError if it can do neither.
        adapt_columns: converts, to text form, those of many rows for which that is simple, to the pairs that `adapt`
            would return; the others are left to `adapt`. It gets only rows that have the columns of `columns` and no
            others. None: all rows are left to `adapt`.
        layouts: sets of further columns, one of which `adapt` requires of every row; empty if `columns` are all.
        optional: columns that are used where present; every other column is counted as unused.
        looks_like: returns True if a row with those columns is of this source; for sources with the same columns. It
            may look for columns that `adapt` does not require.
        has_scores: True if pairs may have scores.
        has_tools: True if messages may call tools.
        comes_in_pairs: True if `adapt` returns pairs, to which no pairing policy applies.
        hub: repository on the Hugging Face Hub, as in "Anthropic/hh-rlhf".
        hub_files: paths or globs of its files in that repository.
        download: where its files are published, if not on the Hub.
        sample: files of the embedded sample, relative to the package.
        check_file: returns the reason why a file with this first row cannot be converted with these options, or None.
        mapped_fields: fields that --map may rename; empty if the source takes no mapping.
        omittable_fields: those of them that --map FIELD= leaves out, although a row has a column of that name.
        contents: returns the prompt and the responses of a row, or None if it lacks one, for sources whose rows may be
            text or turns of a dialogue; their first rows decide the form. None: the form is text unless given.
        judgments: value of --axis, which is required, to the column of that judgment; empty if there is only one.
        row_split: returns the split that a row names, or None if its path decides; may raise RowError.
        takes_labels: True if --label-map may say what a label means.
        reads: returns the columns that the pair of a row depends on, besides `optional`; for sources that find their
            columns by name. None: those of `columns` and `layouts`.
        eval_only: True for an evaluation set, whose rows go to the test split unless the user opts out.
        grouping: how rows that belong together are converted; None if every row is converted by itself.
        example_options: further options of the example command, as in "--form conversational".
        tested_on: rows that the adapter was tested on.
    """

    name: str
    license: str
    homepage: str
    direction: str
    columns: tuple[str, ...]
    adapt: Callable[[Row, SourceOptions], PreferencePair | ScoredResponses | list[ScoredResponses]]
    adapt_columns: Callable[[Sequence[Row], SourceOptions], AdaptedColumns] | None = None
    layouts: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()
    looks_like: Callable[[Row], bool] = lambda row: True
    has_scores: bool = False
    has_tools: bool = False
    comes_in_pairs: bool = False
    hub: str = ""
    hub_files: tuple[str, ...] = ()
    download: str = ""
    sample: tuple[str, ...] = ()
    check_file: Callable[[Row, SourceOptions], str | None] = lambda row, options: None
    mapped_fields: tuple[str, ...] = ()
    omittable_fields: tuple[str, ...] = ()
    contents: Callable[[Row, FieldMap], RowContents | None] | None = None
    judgments: Mapping[Axis, str] = field(default_factory=dict)
    row_split: Callable[[Row], SplitName | None] | None = None
    takes_labels: bool = False
    reads: Callable[[Row, FieldMap], Collection[str]] | None = None
    eval_only: bool = False
    grouping: Grouping | None = None
    example_options: str = ""
    tested_on: str = "golden rows"

    @property
    def command(self) -> str:
        """An example command that converts this source."""
        words = ["dpo-data convert", self.name]
        if self.axes:
            words.append(f"--axis {self.axes[0]}")
        if not self.hub_files:
            words.append("--input FILE")
        return " ".join([*words, self.example_options]).rstrip()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The values of --axis, one of which is required; empty if the source has a single judgment."""
        return tuple(self.judgments)

    def missing_columns(self, present: Collection[str], mapping: FieldMap, axis: Axis | None = None) -> tuple[str, ...]:
        """Return the columns that rows with the columns `present` lack, in the layout that lacks the fewest.

        Args:
            present: the columns of a row or table.
            mapping: of --map; the columns that it names are required.
            axis: the judgment that counts; None for any.
        """
        lacking = [
            tuple(name for name in dict.fromkeys(names) if not (name in present or name.split(".")[0] in present))
            for names in self._alternatives(mapping, axis)
        ]
        return min(lacking, key=len)

    def matches(self, row: Row, mapping: FieldMap) -> bool:
        """Return True if a row has the columns of this source and looks like one of its rows."""
        return not self.missing_columns(row, mapping) and (bool(mapping) or self.looks_like(row))

    def used_columns(self, row: Row, mapping: FieldMap) -> frozenset[str]:
        """Return the top-level columns that the pairs of rows with the columns of this one depend on."""
        names = {mapping.get(column, column) for column in self.optional}
        names = names.union(*self._alternatives(mapping, None) if self.reads is None else [self.reads(row, mapping)])
        return frozenset(names | {name.split(".")[0] for name in names})

    def hint(self, error: RowError, mapping: FieldMap) -> str:
        """Return what to do about a row: for a missing column, whether --map can name another one."""
        fields = self.mapped_fields or (
            *self.columns,
            *self.optional,
            *(name for names in self.layouts for name in names),
        )
        if error.code != "missing_field" or error.field not in {mapping.get(field, field) for field in fields}:
            return error.hint
        if self.mapped_fields:
            return "Name the column that holds it with --map, or remove the row."
        return f"The columns of {self.name} are fixed: rename the column in the raw file, or remove the row."

    def _alternatives(self, mapping: FieldMap, axis: Axis | None) -> list[list[str]]:
        """Return the sets of columns one of which a row must have."""
        judgments = [self.judgments[axis]] if axis is not None else list(self.judgments.values())
        return [
            [
                *(mapping.get(column, column) for column in (*self.columns, *layout, *judgment)),
                *filter(None, mapping.values()),
            ]
            for layout in self.layouts or ((),)
            for judgment in [[column] for column in judgments] or [[]]
        ]


class SourceSummary(BaseModel):
    """One source as `dpo-data sources` and the documentation describe it."""

    name: str
    direction: str
    license: str
    homepage: str
    command: str
    tested_on: str
    eval_only: bool
    hub: str
    columns: tuple[str, ...]
    mapped_fields: tuple[str, ...]
    axes: tuple[str, ...]

    @computed_field(description="The former name of `license`.")  # type: ignore[prop-decorator]
    @property
    def licence(self) -> str:
        """The license under its former name."""
        return self.license
