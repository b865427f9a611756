"""berkeley-nest/Nectar: seven answers to a prompt, ranked by GPT-4; rank 1 is the best.

The prompt is a transcript, often of several turns, that ends with an empty Assistant turn. An answer that occurs twice
counts once. Prompts with the source "anthropic-hh" overlap with hh-rlhf. The card is tagged apache-2.0, but restricts
the dataset to non-commercial use.
Columns as read by open-instruct's nectar.py.
"""

from dpo_data.dialogue import ROLES, parse_turns
from dpo_data.errors import RowError
from dpo_data.records import Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, as_object, objects_with, required_list, required_number, required_text
from dpo_data.sources.responses import assistant
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the answers with their ranks.

    Raises: RowError: missing_field, wrong_type, not_a_dialogue, no_response.
    """
    responses = []
    for index, value in enumerate(required_list(row, "answers")):
        path = f"answers.{index}."
        answer = as_object(value, path[:-1])
        content = [assistant(required_text(answer, "answer", path))]
        responses.append(Response(content=content, rank=required_number(answer, "rank", path)))
    return ScoredResponses(prompt=parse_prompt(required_text(row, "prompt")), responses=responses)


def parse_prompt(transcript: str) -> list[Message]:
    r"""Return the messages of a transcript that ends with an empty Assistant turn.

    >>> [m.content for m in parse_prompt("\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Bye\n\nAssistant: ")]
    ['Hi', 'Yes?', 'Bye']

    Raises: RowError: not_a_dialogue or no_response.
    """
    before, turns = parse_turns(transcript)
    if before.strip() or not turns:
        raise RowError("not_a_dialogue", "prompt", 'prompt does not start with a "Human:" turn after a blank line.')
    if turns[-1][0] != "Assistant" or turns[-1][1].strip() or len(turns) < 2:
        raise RowError("no_response", "prompt", "prompt does not end with an empty Assistant turn.")
    return [Message(role=ROLES[speaker], content=text.removeprefix(" ")) for speaker, text in turns[:-1]]


SOURCE = Source(
    name="nectar",
    license="apache-2.0 (non-commercial use only)",
    homepage="https://huggingface.co/datasets/berkeley-nest/Nectar",
    direction="the lower rank; rank 1 is the best",
    columns=("prompt", "answers"),
    adapt=adapt,
    looks_like=lambda row: objects_with(row["answers"], "answer", "rank"),
    has_scores=True,
    hub="berkeley-nest/Nectar",
    hub_files=("data/train-*.parquet",),
    tested_on="golden rows in the layout of a real row",
)
