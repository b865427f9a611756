"""Generate texts for the prompts of a padded batch."""

from typing import Any

import torch
from torch import Tensor

from dpo_data.errors import UsageError

#: Maximum tokens of prompt and generated text, if there is no max_length.
DEFAULT_MAX_LENGTH = 512


def generate_texts(
    writer: Any,
    batch: dict[str, Tensor],
    tokenizer: Any,
    *,
    label_pad_token_id: int,
    max_length: int | None,
    max_positions: int | None,
) -> list[str]:
    """Return a sampled text for each prompt, the prompt included.

    Args:
        writer: a model or reference with a `generate` method.
        batch: made by `DPODataCollatorWithPadding`, on the device of the writer.
        tokenizer: decodes the tokens.
        label_pad_token_id: label of prompt and padding tokens.
        max_length: maximum tokens of prompt and generated text; None for `DEFAULT_MAX_LENGTH`.
        max_positions: maximum tokens that the model supports; None for no limit.

    Raises:
        UsageError: there is no tokenizer; or the reference is the initial policy, which has been trained since.
    """
    if tokenizer is None:
        raise UsageError("get_batch_samples decodes text, which needs DPOTrainer(tokenizer=...).")
    max_length = max_length or DEFAULT_MAX_LENGTH
    max_length = min(max_length, max_positions or max_length)
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    input_ids, attention_mask = left_padded_prompts(batch, label_pad_token_id=label_pad_token_id, padding=padding)
    with torch.no_grad():
        ids = writer.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            max_new_tokens=max(max_length - input_ids.shape[1], 1),
            do_sample=True,
            use_cache=True,
            pad_token_id=padding,
        )
    texts: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts


def left_padded_prompts(batch: dict[str, Tensor], *, label_pad_token_id: int, padding: int) -> tuple[Tensor, Tensor]:
    """Return the prompts of a batch, padded on the left for generation.

    Args:
        batch: made by `DPODataCollatorWithPadding`.
        label_pad_token_id: label of prompt and padding tokens.
        padding: token id to pad with.

    Returns: ids and attention mask, (B, longest prompt).
    """
    input_ids = batch["chosen_input_ids"]
    lengths = ((batch["chosen_attention_mask"] == 1) & (batch["chosen_labels"] == label_pad_token_id)).sum(1)
    longest = int(lengths.max())
    # Row i of the result is row i of the batch, shifted right by the difference to the longest prompt.
    columns = torch.arange(longest, device=input_ids.device) - (longest - lengths)[:, None]
    mask = columns >= 0
    return input_ids.gather(1, columns.clamp(min=0)).where(mask, padding), mask.long()
