r"""xinlai/Math-Step-DPO-10K: a problem, the first steps of a solution, and a correct and an incorrect next step.

The first steps belong to the prompt. As messages, they are an assistant message that the responses continue; as text,
"\n\nAssistant: " and the steps end the prompt. A row without first steps has the problem alone as its prompt.
full_chosen and full_rejected, the whole solutions, are not used.
Columns and prompt as read by Step-DPO's train.py.
"""

from dpo_data.dialogue import ASSISTANT_START, HUMAN_START
from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import Row, optional_text, required_text
from dpo_data.sources.responses import assistant, user
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two next steps.

    Raises: RowError: missing_field, wrong_type.
    """
    problem, steps = required_text(row, "prompt"), optional_text(row, "initial_reason_steps")
    chosen, rejected = required_text(row, "chosen"), required_text(row, "rejected")
    if options.form == "text":
        start = f"{HUMAN_START} {problem}{ASSISTANT_START}" + (f" {steps}" if steps else "")
        space = "" if steps else " "
        responses = [Response(content=space + chosen, rank=1), Response(content=space + rejected, rank=2)]
        return ScoredResponses(prompt=start, responses=responses)
    prompt = [user(problem), *([assistant(steps)] if steps else [])]
    responses = [Response(content=[assistant(chosen)], rank=1), Response(content=[assistant(rejected)], rank=2)]
    return ScoredResponses(prompt=prompt, responses=responses)


SOURCE = Source(
    name="step-dpo",
    license="cc-by-nc-4.0",
    homepage="https://huggingface.co/datasets/xinlai/Math-Step-DPO-10K",
    direction="chosen",
    columns=("prompt", "chosen", "rejected"),
    adapt=adapt,
    optional=("initial_reason_steps",),
    looks_like=lambda row: isinstance(row.get("initial_reason_steps"), str),
    hub="xinlai/Math-Step-DPO-10K",
    hub_files=("data/train-*.parquet",),
)
