"""Published statistics. Fields of examples have the ids of pairs in the folder."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from dpo_data.options import TruncationMode
from dpo_data.prepared.manifest import ManifestModel

#: Pairs judged more than once that an estimate of the label noise needs.
ENOUGH_REPEATS = 30

Share = Annotated[float, Field(ge=0, le=1)]


class Bin(ManifestModel):
    """Number of values from `low` up to, but not including, `high`; None is open-ended."""

    low: float | None
    high: float | None
    count: NonNegativeInt


class Distribution(ManifestModel):
    """Order statistics and histogram of one quantity.

    Lengths are exact, up to 10,000 different ones; other quantiles are rounded to three significant digits.
    """

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
    """Lengths of the three texts of a pair, and of the prompt with the longer response, all in one unit."""

    prompt: Distribution
    chosen: Distribution
    rejected: Distribution
    pair: Annotated[Distribution, Field(description="Prompt and longer response together.")]
    longest: Annotated[list[str], Field(description="Ids of the longest pairs.")]


class RuleScore(ManifestModel):
    """Accuracy of a rule that guesses the label without reading the responses, with Wilson's 95% interval."""

    pairs: NonNegativeInt
    decided: Annotated[NonNegativeInt, Field(description="Pairs for which the rule prefers one response.")]
    right: Annotated[NonNegativeInt, Field(description="Of those, pairs where that response is chosen.")]
    coverage: Annotated[Share | None, Field(description="decided / pairs.")]
    accuracy: Annotated[Share | None, Field(description="right / decided.")]
    low: Share | None
    high: Share | None


class GapScore(ManifestModel):
    """Score of "longer wins" on pairs whose lengths differ by `low` to `high` characters; None is open-ended."""

    low: int
    high: int | None
    score: RuleScore


class LengthDifference(ManifestModel):
    """Characters of chosen minus characters of rejected."""

    chosen_longer: NonNegativeInt
    equal: NonNegativeInt
    rejected_longer: NonNegativeInt
    difference: Distribution
    by_gap: Annotated[
        list[GapScore], Field(description='The rule "longer wins" by how much longer the longer response is.')
    ]
    chosen_longest: Annotated[list[str], Field(description="Ids of the pairs where chosen is longer by the most.")]
    rejected_longest: Annotated[list[str], Field(description="Ids of the pairs where rejected is longer by the most.")]


class ScoreDistributions(ManifestModel):
    """Scores that came with the pairs; the margin is their difference if the source gives none."""

    chosen: Distribution | None
    rejected: Distribution | None
    margin: Distribution | None
    widest: Annotated[list[str], Field(description="Ids of the pairs with the widest margins.")]
    narrowest: Annotated[list[str], Field(description="Ids of the pairs with the narrowest margins.")]


class MarginScore(ManifestModel):
    """Score of a rule on pairs with a margin from `low` up to, not including, `high`; the last bin includes it."""

    low: float
    high: float
    score: RuleScore


class RuleEntry(ManifestModel):
    """Scores of one rule: over all pairs, by raw file (a source often has several), by a column, and by margin."""

    rule: str
    overall: RuleScore
    by_file: dict[str, RuleScore]
    by_value: Annotated[
        dict[str, RuleScore], Field(default_factory=dict, description="By the value of the column `by`.")
    ]
    by_margin: list[MarginScore]
    right_examples: list[str]
    wrong_examples: list[str]


class LabelNoise(ManifestModel):
    """Estimate of the share of wrong labels, from pairs that several judges judged.

    Two independent judgments that are each wrong with probability e disagree with probability d = 2 e (1 - e).
    """

    repeated: Annotated[int, Field(ge=1, description="Pairs of responses that were judged more than once.")]
    judgements: Annotated[int, Field(ge=2, description="Rows that judge them.")]
    disputed: Annotated[NonNegativeInt, Field(description="Of `repeated`, those that were judged both ways.")]
    disagreement: Annotated[Share, Field(description="d: probability that two judgments of one pair disagree.")]
    error: Annotated[float, Field(ge=0, le=0.5, description="e: probability that a label is wrong.")]
    error_low: Annotated[float, Field(ge=0, le=0.5, description="e for the lower end of d's interval (Wilson, 95%).")]
    error_high: Annotated[float, Field(ge=0, le=0.5, description="e for the upper end.")]
    label_smoothing: Annotated[
        float | None, Field(description="The label smoothing to train with: e. None if e is 0.5, a coin flip.")
    ]
    examples: Annotated[list[str], Field(description="Ids of disputed pairs, one of the two directions.")]


class Truncation(ManifestModel):
    """Effect of one maximum length; a response that loses its end loses its end-of-sequence token."""

    max_length: int
    max_prompt_length: int | None
    truncation_mode: TruncationMode
    pairs: Annotated[NonNegativeInt, Field(description="Pairs that the chat template accepts.")]
    pairs_cut: NonNegativeInt
    prompts_losing_start: NonNegativeInt
    prompts_losing_end: NonNegativeInt
    prompt_tokens_lost: NonNegativeInt
    chosen_losing_end: NonNegativeInt
    rejected_losing_end: NonNegativeInt
    one_side_losing_end: Annotated[
        NonNegativeInt, Field(description="Pairs where one response loses its end and the other does not.")
    ]
    response_tokens_lost: NonNegativeInt
    responses_too_long: Annotated[
        NonNegativeInt, Field(description="Pairs whose longer response is too long even with a single prompt token.")
    ]
    identical: Annotated[
        NonNegativeInt, Field(description="Pairs whose responses become equal, and so carry no signal.")
    ]
    empty: Annotated[NonNegativeInt, Field(description="Pairs without a prompt token.")]
    identical_examples: list[str]
    one_side_examples: list[str]


class Statistics(ManifestModel):
    """Statistics of the pairs of a prepared folder."""

    pairs: NonNegativeInt
    pairs_by_file: dict[str, NonNegativeInt]
    by: Annotated[str | None, Field(description="Column by whose values the pairs are sliced.")] = None
    pairs_by_value: Annotated[
        dict[str, NonNegativeInt], Field(default_factory=dict, description="Value of that column to pairs.")
    ]
    characters: Lengths | None
    tokens: Annotated[Lengths | None, Field(description="None without a tokenizer.")]
    tokenizer: str | None
    refused: Annotated[dict[str, NonNegativeInt], Field(description="Reason of the chat template to pairs refused.")]
    lengths: LengthDifference | None
    scores: Annotated[ScoreDistributions | None, Field(description="None if the source has none.")]
    rules: list[RuleEntry]
    label_noise: Annotated[LabelNoise | None, Field(description="None if no pair has two judges.")]
    truncation: Annotated[list[Truncation], Field(description="Empty without a tokenizer.")]
