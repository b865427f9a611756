"""What a source is: its adapter and everything that convert must know about it."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from dpo_data.errors import RowError
from dpo_data.options import Axis, Form
from dpo_data.records import PreferencePair, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row


@dataclass(frozen=True)
class SourceOptions:
    """What the user says about the reading of a source."""

    form: Form = "text"
    mapping: FieldMap = field(default_factory=dict)
    axis: Axis | None = None


@dataclass
class AdaptedGroup:
    """What rows that belong together came to.

    Attributes:
        responses: prompts with their responses, which name the rows they come from.
        errors: position of a row -> why it can be no part of a pair.
        left_out: position of a row -> why it is no response, in one word.
    """

    responses: list[ScoredResponses] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A raw data set, and how its rows become pairs.

    Attributes:
        name: on the command line.
        license: of the data; "unknown" where only its owner knows.
        homepage: where the data comes from; empty for one's own files.
        direction: the rule that says which response is preferred.
        columns: the columns that every row has; a user's mapping may rename them.
        adapt: raw row and options to a pair, or to scored responses that `dpo_data.pairing` pairs; pure; raises
            RowError for a row that is neither.
        optional: columns that are read where they are there; any other is counted as unused.
        looks_like: whether a row with those columns is one of this source, where columns alone do not tell.
        has_scores: whether its pairs may carry scores.
        has_tools: whether its messages may call tools.
        comes_in_pairs: whether `adapt` gives pairs, so that no pairing policy means anything.
        hub: repository of the Hugging Face hub, as in "Anthropic/hh-rlhf".
        hub_files: paths or globs of its files there.
        sample: files of the embedded sample, inside the package.
        refuse: why a file whose first row this is can never become pairs with these options, or None.
        mapped_fields: what --map may rename; empty where it means nothing.
        axes: values of --axis, one of which must be given; empty where it means nothing.
        eval_only: an evaluation set: nothing of it goes to train unless the user says so.
        group_key: what rows that belong together share; None where each row stands for itself.
        scattered: whether such rows may stand anywhere in a file, which is then held in memory, not only together.
        adapt_group: the rows of a group to what they came to; there where `group_key` is.
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
    refuse: Callable[[Row, SourceOptions], str | None] = lambda row, options: None
    mapped_fields: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    eval_only: bool = False
    group_key: Callable[[Row], Hashable] | None = None
    scattered: bool = False
    adapt_group: Callable[[Sequence[Row], SourceOptions], AdaptedGroup] | None = None

    def required_columns(self, mapping: FieldMap) -> tuple[str, ...]:
        """The columns that a table must have, with those that the mapping names."""
        return tuple(dict.fromkeys([mapping.get(column, column) for column in self.columns] + [*mapping.values()]))

    def fits(self, row: Row, mapping: FieldMap) -> bool:
        """Whether a row is one of this source's, by its columns and a look at it."""
        there = all(column in row or column.split(".")[0] in row for column in self.required_columns(mapping))
        return there and (bool(mapping) or self.looks_like(row))

    def reads(self, mapping: FieldMap) -> frozenset[str]:
        """The top-level columns that go into pairs, or decide about them."""
        names = {*self.required_columns(mapping), *(mapping.get(column, column) for column in self.optional)}
        return frozenset(names | {name.split(".")[0] for name in names})


class SourceSummary(BaseModel):
    """What `dpo-data sources` says about one source."""

    name: str
    direction: str
    license: str
    homepage: str
    eval_only: bool
    hub: str
    columns: tuple[str, ...]
    mapped_fields: tuple[str, ...]
    axes: tuple[str, ...]
