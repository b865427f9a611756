"""Responses generated for test prompts before and after training."""

from typing import Any

from dpo_train.run.report import Sample
from dpo_train.trainer.trainer import DPOTrainer


class Samples:
    """Responses of models to the first prompts of the test split."""

    def __init__(self, trainer: DPOTrainer, count: int) -> None:
        self._trainer = trainer
        self._rows: list[Any] = []
        if count and trainer.tokenizer is not None:
            self._rows = trainer.eval_dataset.pairs(range(min(count, len(trainer.eval_dataset))))

    def written_by(self, writer: Any) -> list[str]:
        """Return the text of each prompt with the response that a model generates for it."""
        if not self._rows:
            return []
        self._trainer.model.eval()
        return self._trainer.generate_texts(writer, self._trainer.data_collator(self._rows))

    def compare(self, before: list[str], after: list[str]) -> list[Sample]:
        """Return the responses before and after training, without the prompt that both begin with."""
        decode = getattr(self._trainer.tokenizer, "decode", None)
        prompts = [decode(row["prompt_ids"], skip_special_tokens=True) for row in self._rows] if decode else []
        return [
            Sample(prompt, old.removeprefix(prompt), new.removeprefix(prompt))
            for prompt, old, new in zip(prompts, before, after, strict=True)
        ]
