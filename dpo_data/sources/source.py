"""Source: a raw dataset, its adapter, and what convert needs to know about both."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, computed_field

from dpo_data.errors import RowError
from dpo_data.options import Axis, Form
from dpo_data.records import PreferencePair, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row


@dataclass(frozen=True)
class SourceOptions:
    """Options of the user that an adapter sees."""

    form: Form = "text"
    mapping: FieldMap = field(default_factory=dict)
    axis: Axis | None = None


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


@dataclass(frozen=True)
class Grouping:
    """Rows that belong together, and the adapter that takes all rows of a group at once.

    Attributes:
        key: returns the value that the rows of a group share, or None for a row that is a group of its own.
        adapt: converts the rows of one group; pure.
        buffer_whole_file: True if rows of a group may be anywhere in a file, which is then held in memory. Otherwise
            they must be adjacent.
    """

    key: Callable[[Row], Hashable]
    adapt: Callable[[Sequence[Row], SourceOptions], AdaptedGroup]
    buffer_whole_file: bool = False


@dataclass(frozen=True)
class Source:
    """A raw dataset and the conversion of its rows to pairs.

    Attributes:
        name: name on the command line.
        license: license of the data; "unknown" if only its owner knows.
        homepage: where the dataset is published; empty for the user's own files.
        direction: the rule that decides which response is preferred, in words.
        columns: columns that every row has; a mapping may rename them.
        adapt: converts a raw row to a pair, or to scored responses for `dpo_data.pairing`; pure; raises RowError if it
            can do neither.
        optional: columns that are used where present; every other column is counted as unused.
        looks_like: returns True if a row with those columns is of this source; for sources with the same columns.
        has_scores: True if pairs may have scores.
        has_tools: True if messages may call tools.
        comes_in_pairs: True if `adapt` returns pairs, to which no pairing policy applies.
        hub: repository on the Hugging Face Hub, as in "Anthropic/hh-rlhf".
        hub_files: paths or globs of its files in that repository.
        sample: files of the embedded sample, relative to the package.
        check_file: returns the reason why a file with this first row cannot be converted with these options, or None.
        mapped_fields: fields that --map may rename; empty if the source takes no mapping.
        axes: values of --axis, one of which is required; empty if the source has a single judgment.
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
    adapt: Callable[[Row, SourceOptions], PreferencePair | ScoredResponses]
    optional: tuple[str, ...] = ()
    looks_like: Callable[[Row], bool] = lambda row: True
    has_scores: bool = False
    has_tools: bool = False
    comes_in_pairs: bool = False
    hub: str = ""
    hub_files: tuple[str, ...] = ()
    sample: tuple[str, ...] = ()
    check_file: Callable[[Row, SourceOptions], str | None] = lambda row, options: None
    mapped_fields: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
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

    def required_columns(self, mapping: FieldMap) -> tuple[str, ...]:
        """Return the columns that a table must have, including those that the mapping names."""
        return tuple(dict.fromkeys([mapping.get(column, column) for column in self.columns] + [*mapping.values()]))

    def matches(self, row: Row, mapping: FieldMap) -> bool:
        """Return True if a row has the columns of this source and looks like one of its rows."""
        present = all(column in row or column.split(".")[0] in row for column in self.required_columns(mapping))
        return present and (bool(mapping) or self.looks_like(row))

    def used_columns(self, mapping: FieldMap) -> frozenset[str]:
        """Return the top-level columns that the pairs depend on."""
        names = {*self.required_columns(mapping), *(mapping.get(column, column) for column in self.optional)}
        return frozenset(names | {name.split(".")[0] for name in names})


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
