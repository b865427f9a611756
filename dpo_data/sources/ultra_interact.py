"""openbmb/UltraInteract_pair: a trajectory of an assistant, and a correct and an incorrect next step.

The trajectory is the prompt: the instruction, and possibly earlier steps with the feedback on them. Its coding, maths
and logic tasks have many rows per instruction.
Columns as in the README of OpenBMB/Eurus, and as read by open-instruct's ultrainteract.py.
"""

from dpo_data.errors import RowError
from dpo_data.records import Message, ScoredResponses
from dpo_data.sources.fields import Row, as_object, required_choice, required_list, required_text
from dpo_data.sources.responses import preferred
from dpo_data.sources.source import Source, SourceOptions

ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two next steps.

    Raises: RowError: missing_field, wrong_type, prompts_diverge.
    """
    prompt = []
    for index, value in enumerate(required_list(row, "trajectory")):
        path = f"trajectory.{index}"
        turn = as_object(value, path)
        role = ROLES[required_choice(turn, "from", tuple(ROLES), f"{path}.")]
        prompt.append(Message(role=role, content=required_text(turn, "value", f"{path}.")))
    if not prompt or prompt[-1].role != "user":
        raise RowError("prompts_diverge", "trajectory", "trajectory does not end with a user turn.")
    return preferred(prompt, required_text(row, "chosen"), required_text(row, "rejected"))


SOURCE = Source(
    name="ultra-interact",
    license="mit",
    homepage="https://huggingface.co/datasets/openbmb/UltraInteract_pair",
    direction="chosen",
    columns=("trajectory", "chosen", "rejected"),
    adapt=adapt,
    hub="openbmb/UltraInteract_pair",
    hub_files=("**/*.parquet",),
)
