"""nvidia/HelpSteer2: one response per row, rated from 0 to 4 in five aspects; the two rows of a prompt are adjacent.

The score is helpfulness, the aspect that rates a response as a whole; the other ratings are not used. In the folder
disagreements each rating is the list of those that the annotators gave; their mean is the score. The two rows of a
prompt must be adjacent, as in the published files. In a prompt of several turns, the lines "<extra_id_1>User" and
"<extra_id_1>Assistant" separate them; these markers were only partly verified, and a prompt without them stays one user
message.
"""

import re
from functools import partial
from statistics import fmean

from dpo_data.errors import RowError
from dpo_data.records import Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, number, required_number, required_text
from dpo_data.sources.responses import assistant, merge_rows, user
from dpo_data.sources.source import Grouping, Source, SourceOptions

TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the prompt with one rated response.

    Raises: RowError: missing_field, wrong_type.
    """
    response = Response(content=[assistant(required_text(row, "response"))], score=helpfulness(row))
    return ScoredResponses(prompt=parse_prompt(required_text(row, "prompt")), responses=[response])


def helpfulness(row: Row) -> float:
    """Return the rating, or the mean of several ones.

    Raises: RowError: missing_field, wrong_type.
    """
    ratings = row.get("helpfulness")
    if not isinstance(ratings, list):
        return required_number(row, "helpfulness")
    scores = [score for i, rating in enumerate(ratings) if (score := number(rating, f"helpfulness.{i}")) is not None]
    if not scores:
        raise RowError("missing_field", "helpfulness", "helpfulness has no ratings.")
    return fmean(scores)


def parse_prompt(text: str) -> list[Message]:
    r"""Return the turns of a prompt.

    >>> [m.content for m in parse_prompt("Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nWho?")]
    ['Hi', 'Hello', 'Who?']
    """
    first, *rest = TURN.split(text)
    speakers = {"User": user, "Assistant": assistant}
    turns = [user(first), *(speakers[speaker](turn) for speaker, turn in zip(rest[::2], rest[1::2], strict=True))]
    return turns if turns[-1].role == "user" else [user(text)]


SOURCE = Source(
    name="helpsteer2",
    license="cc-by-4.0",
    homepage="https://huggingface.co/datasets/nvidia/HelpSteer2",
    direction="the response with the higher helpfulness",
    columns=("prompt", "response", "helpfulness"),
    adapt=adapt,
    has_scores=True,
    hub="nvidia/HelpSteer2",
    hub_files=("train.jsonl.gz", "validation.jsonl.gz"),
    grouping=Grouping(lambda row, options: row.get("prompt"), partial(merge_rows, adapt=adapt)),
    tested_on="golden rows in the layout of a real row",
)
