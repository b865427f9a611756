"""The statistics as they are published; ids in `examples` are those of pairs in the folder."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from dpo_data.options import TruncationMode
from dpo_data.prepared.manifest import ManifestModel

#: Fewer pairs that were judged twice are a hint of the label noise, and no measurement.
ENOUGH_REPEATS = 30

Share = Annotated[float, Field(ge=0, le=1)]


class Bin(ManifestModel):
    """How many values lie at `low` or above and under `high`; None is without end."""

    low: float | None
    high: float | None
    count: NonNegativeInt


class Distribution(ManifestModel):
    """Order statistics of one quantity, all but the extremes rounded to three significant digits, and its histogram."""

    count: NonNegativeInt
    mean: float
    min: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    p99: float
    max: float
    bins: list[Bin]


class Lengths(ManifestModel):
    """Lengths of the three texts of a pair, all in one unit, binned alike."""

    prompt: Distribution
    chosen: Distribution
    rejected: Distribution
    longest: Annotated[list[str], Field(description="Ids of the longest pairs.")]


class RuleScore(ManifestModel):
    """How well a rule that reads no meaning guesses the label; the interval is Wilson's, 95%."""

    pairs: NonNegativeInt
    decided: Annotated[NonNegativeInt, Field(description="Pairs of which the rule prefers one response.")]
    right: Annotated[NonNegativeInt, Field(description="Of those, pairs where that one is chosen.")]
    coverage: Annotated[Share | None, Field(description="decided / pairs.")]
    accuracy: Annotated[Share | None, Field(description="right / decided.")]
    low: Share | None
    high: Share | None


class GapScore(ManifestModel):
    """The rule "longer wins" on the pairs whose lengths differ by `low` to `high` characters; None is without end."""

    low: int
    high: int | None
    score: RuleScore


class LengthDifference(ManifestModel):
    """Characters of chosen less characters of rejected."""

    chosen_longer: NonNegativeInt
    equal: NonNegativeInt
    rejected_longer: NonNegativeInt
    difference: Distribution
    by_gap: Annotated[list[GapScore], Field(description='The rule "longer wins" by how much longer one of the two is.')]
    chosen_longest: Annotated[list[str], Field(description="Ids of the pairs where chosen is longer by most.")]
    rejected_longest: Annotated[list[str], Field(description="Ids of the pairs where rejected is longer by most.")]


class ScoreDistributions(ManifestModel):
    """The scores that came with the pairs; margin is their difference where the source names none."""

    chosen: Distribution | None
    rejected: Distribution | None
    margin: Distribution | None
    widest: Annotated[list[str], Field(description="Ids of the pairs with the widest margins.")]
    narrowest: Annotated[list[str], Field(description="Ids of the pairs with the narrowest margins.")]


class MarginScore(ManifestModel):
    """A rule on the pairs whose margin lies at `low` or above and under `high`; the last bin has its `high` too."""

    low: float
    high: float
    score: RuleScore


class RuleEntry(ManifestModel):
    """One rule: over all pairs, by raw file (a folder is of one source, its files are often several), and by margin."""

    rule: str
    overall: RuleScore
    by_file: dict[str, RuleScore]
    by_margin: list[MarginScore]
    right_examples: list[str]
    wrong_examples: list[str]


class LabelNoise(ManifestModel):
    """What pairs that were judged more than once say about the labels.

    Two judgements that each err with probability e, apart from each other, disagree with probability d = 2 e (1 - e).
    Copies of one judgement are no second judgement: where there are any, d and e are too low.
    """

    repeated: Annotated[int, Field(ge=1, description="Pairs of responses that were judged more than once.")]
    judgements: Annotated[int, Field(ge=2, description="Rows that judge them.")]
    disputed: Annotated[NonNegativeInt, Field(description="Of `repeated`, those that were judged both ways.")]
    disagreement: Annotated[Share, Field(description="d: chance that two judgements of one pair disagree.")]
    error: Annotated[float, Field(ge=0, le=0.5, description="e: chance that a label is wrong.")]
    error_low: Annotated[float, Field(ge=0, le=0.5, description="e for the lower end of d's interval (Wilson, 95%).")]
    error_high: Annotated[float, Field(ge=0, le=0.5, description="e for the upper end.")]
    label_smoothing: Annotated[
        float | None, Field(description="To train with: e. None where the labels say nothing (e = 0.5).")
    ]
    examples: Annotated[list[str], Field(description="Ids of disputed pairs, one way round.")]


class Truncation(ManifestModel):
    """What one maximum length would do to the pairs; a response that loses its end loses its end-of-sequence token."""

    max_length: int
    max_prompt_length: int | None
    truncation_mode: TruncationMode
    pairs: Annotated[NonNegativeInt, Field(description="Pairs that the chat template takes.")]
    pairs_cut: NonNegativeInt
    prompts_losing_start: NonNegativeInt
    prompts_losing_end: NonNegativeInt
    prompt_tokens_lost: NonNegativeInt
    chosen_losing_end: NonNegativeInt
    rejected_losing_end: NonNegativeInt
    one_side_losing_end: Annotated[NonNegativeInt, Field(description="Pairs where one response does, and one not.")]
    response_tokens_lost: NonNegativeInt
    identical: Annotated[NonNegativeInt, Field(description="Pairs whose responses become equal: no signal is left.")]
    empty: Annotated[NonNegativeInt, Field(description="Pairs without a prompt token.")]
    identical_examples: list[str]
    one_side_examples: list[str]


class Statistics(ManifestModel):
    """What the pairs of a prepared folder are like."""

    pairs: NonNegativeInt
    pairs_by_file: dict[str, NonNegativeInt]
    characters: Lengths | None
    tokens: Annotated[Lengths | None, Field(description="None without a tokenizer.")]
    tokenizer: str | None
    refused: Annotated[dict[str, NonNegativeInt], Field(description="Reason of a chat template to pairs.")]
    lengths: LengthDifference | None
    scores: Annotated[ScoreDistributions | None, Field(description="None where the source has none.")]
    rules: list[RuleEntry]
    label_noise: Annotated[LabelNoise | None, Field(description="None where no pair was judged twice.")]
    truncation: Annotated[list[Truncation], Field(description="Empty without a tokenizer.")]
