"""Preference files of NeMo-RL: a context and ranked completions; rank 0 is the best, whereas Nectar starts at 1.

Fields as read by NeMo-RL's preference_dataset.py.
"""

from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import Row, as_object, objects_with, required, required_list, required_number
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import require_response
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the completions with their ranks.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    responses = []
    for index, value in enumerate(required_list(row, "completions")):
        path = f"completions.{index}."
        completion = as_object(value, path[:-1])
        content = messages(required(completion, "completion", path), f"{path}completion")
        require_response(f"{path}completion", content)
        responses.append(Response(content=content, rank=required_number(completion, "rank", path)))
    return ScoredResponses(prompt=messages(required(row, "context"), "context"), responses=responses)


SOURCE = Source(
    name="nemo-rank",
    license="unknown",
    homepage="https://github.com/NVIDIA-NeMo/RL",
    direction="the lower rank; rank 0 is the best",
    columns=("context", "completions"),
    adapt=adapt,
    looks_like=lambda row: objects_with(row["completions"], "rank"),
    has_scores=True,
    has_tools=True,
)
