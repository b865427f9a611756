"""Generate responses to the prompts of pairs with policy and reference."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from dpo_data.errors import UsageError
from dpo_train.data.rows import PairRows
from dpo_train.logprobs.scoring import TensorDict
from dpo_train.reference.live import NoReference, Reference, own_network
from dpo_train.trainer.loading import LoadingTrainer

#: Maximum tokens of prompt and generated text, if there is no max_length.
DEFAULT_MAX_LENGTH = 512
#: Prompts of the evaluation set that responses are generated for.
GENERATED_PROMPTS = 8


class GeneratingTrainer(LoadingTrainer):
    """A trainer whose policy and reference generate texts for the prompts of pairs."""

    max_length: int | None
    data_collator: Any

    @property
    def reference(self) -> Reference:
        """The reference that the policy is compared with."""
        return self._comparison.reference

    @property
    def ref_model(self) -> Any:
        """The reference model, if it has weights of its own and is loaded; else None."""
        return own_network(self.reference)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer, under its name before transformers 5."""
        return self.processing_class

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return texts that policy and reference generate for a batch's prompts: `get_batch_samples(model, batch)`.

        transformers.Trainer has another method of this name, which collects the micro-batches of a step; that one is
        called if the first argument is not a model.
        """
        if not isinstance(args[0] if args else kwargs.get("model"), nn.Module):
            return super().get_batch_samples(*args, **kwargs)
        return self._generate_pair_of_texts(*args, **kwargs)

    def _generate_pair_of_texts(self, model: Any, batch: TensorDict) -> tuple[list[str], list[str]]:
        policy = self.accelerator.unwrap_model(model)
        return self.generate_texts(policy, batch), self.generate_texts(self.reference, batch)

    def generate_texts(self, writer: Any, batch: TensorDict) -> list[str]:
        """Return the texts that a model or reference generates for the prompts of a padded batch."""
        if self.tokenizer is None:
            raise UsageError("get_batch_samples decodes text, which needs DPOTrainer(tokenizer=...).")
        ids, _ = self._generate(writer, batch)
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts

    def generated_metrics(self, rows: PairRows) -> dict[str, float]:
        """Return how long responses of the policy are, and how far it is from the reference on them.

        Both models answer the first prompts of an evaluation set, with samples from their own distribution. The KL
        divergence is the mean log-ratio of the policy's responses, in nats per response. The random numbers of training
        are left as they are.

        Args:
            rows: the evaluation set.
        """
        pairs = rows.pairs(range(min(GENERATED_PROMPTS, len(rows))))
        batch = self.data_collator(pairs)
        self.model.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self.args.seed)
            policy = self._responses(self.accelerator.unwrap_model(self.model), batch)
            is_compared = not isinstance(self.reference, NoReference)
            reference = self._responses(self.reference, batch) if is_compared else policy
            generated = [
                {"prompt_ids": pair["prompt_ids"], "chosen_ids": own, "rejected_ids": other}
                for pair, own, other in zip(pairs, policy, reference, strict=True)
            ]
            inputs = self.as_batch(self.batch_on_device(self.data_collator(generated)))
            scores, (logps, _) = self._comparison.compare(self.model, inputs, is_initial=False)
        metrics = {"generated/length": float(np.mean([len(response) for response in policy]))}
        if is_compared:
            metrics["generated/reference_length"] = float(np.mean([len(response) for response in reference]))
            metrics["generated/kl"] = float((scores.chosen_logps - logps).mean())
        return metrics

    def _responses(self, writer: Any, batch: TensorDict) -> list[np.ndarray]:
        """Return the ids of a response to each prompt, sampled from all tokens, with its EOS."""
        ids, longest = self._generate(writer, batch, top_k=0, top_p=1.0, temperature=1.0)
        ends = self._end_ids()
        responses = []
        for response in ids[:, longest:].cpu().numpy():
            stops = np.flatnonzero(np.isin(response, ends))
            responses.append(response[: stops[0] + 1] if len(stops) else response)
        return responses

    def _end_ids(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    def _generate(self, writer: Any, batch: TensorDict, **options: Any) -> tuple[Tensor, int]:
        """Return prompts, padded on the left, with the tokens that a model samples after them, and the longest prompt.

        Raises:
            UsageError: the reference is the initial policy, which has been trained since.
        """
        positions = getattr(self.model.config, "max_position_embeddings", None)
        max_length = min(self.max_length or DEFAULT_MAX_LENGTH, positions or math.inf)
        tokenizer = self.tokenizer
        padding = getattr(tokenizer, "pad_token_id", None)
        padding = getattr(tokenizer, "eos_token_id", None) if padding is None else padding
        input_ids, attention_mask = left_padded_prompts(
            self.as_padded(batch), label_pad_token_id=self.label_pad_token_id, padding=padding or 0
        )
        with torch.no_grad():
            ids: Tensor = writer.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                max_new_tokens=max(int(max_length) - input_ids.shape[1], 1),
                do_sample=True,
                use_cache=True,
                pad_token_id=padding or 0,
                **options,
            )
        return ids, input_ids.shape[1]


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
