"""DPOTrainer: direct preference optimisation as a transformers Trainer."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import datasets
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from dpo_data.errors import UsageError
from dpo_train.batching import SIDES, Batch, DPODataCollatorWithPadding, pairs_in, right_pad
from dpo_train.config import DPOConfig
from dpo_train.data import PairRows
from dpo_train.logps import completion_logps, next_tokens
from dpo_train.losses import LOSSES, inputs_of, options_of
from dpo_train.reference import FrozenModel, frozen, frozen_copy

#: What is measured of every pair, in the order of the columns of the tables that hold it.
METRICS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "logits/chosen",
    "logits/rejected",
)


class DPOTrainer(Trainer):  # type: ignore[misc]
    """Trains a causal language model to prefer the chosen over the rejected response of each pair.

    The loss of an optimizer step is the sum over its pairs divided by its pairs, however they are spread over
    micro-batches and ranks. Metrics are means over pairs.

    Args:
        model: the policy.
        ref_model: the reference; None for a frozen copy of the policy as it is now.
        beta: strength of the pull to the reference.
        args: transformers.TrainingArguments or DPOConfig; left as it is.
        data_collator: rows of the data set to the batch that `concatenated_inputs` takes.
        label_pad_token_id: label of the tokens that are not part of a response.
        padding_value: token id of padding.
        truncation_mode: keep_end or keep_start of a prompt that is too long, where text is tokenized here.
        train_dataset: pairs to train on.
        eval_dataset: pairs to evaluate on, or several such sets by name.
        tokenizer: saved beside the model.
        model_init: makes the policy, instead of `model`.
        callbacks: further callbacks.
        optimizers: optimizer and scheduler, where the ones of `args` are not wanted.
        preprocess_logits_for_metrics: applied to the logits before `logits/*` are measured, in evaluation.
        max_length: longest prompt and response together, in tokens, where text is tokenized here.
        max_prompt_length: longest prompt, in tokens, where text is tokenized here.
        peft_config: makes the policy an adapter on the model.
        disable_dropout: no dropout in policy and reference, so that both agree before the first step.
        processing_class: another name for `tokenizer`.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        ref_model: PreTrainedModel | nn.Module | None = None,
        beta: float = 0.1,
        args: TrainingArguments | None = None,
        data_collator: Callable[..., Batch] | None = None,
        label_pad_token_id: int = -100,
        padding_value: int = 0,
        truncation_mode: str = "keep_end",
        train_dataset: datasets.Dataset | None = None,
        eval_dataset: datasets.Dataset | dict[str, datasets.Dataset] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], PreTrainedModel] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        peft_config: Any = None,
        disable_dropout: bool = True,
        processing_class: PreTrainedTokenizerBase | None = None,
    ) -> None:
        args = _own_copy(args or DPOConfig())
        self.beta = _one_beta(beta, getattr(args, "beta", None))
        self.loss_type = "sigmoid"
        self.label_pad_token_id = label_pad_token_id
        self.padding_value = padding_value
        self.truncation_mode = truncation_mode
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        if disable_dropout:
            for network in (model, ref_model):
                _disable_dropout(network)
        self._sums: Tensor | None = None
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or DPODataCollatorWithPadding(label_pad_token_id, padding_value),
            train_dataset=_as_rows(train_dataset, "the training set"),
            eval_dataset=_as_rows(eval_dataset, "the evaluation set"),
            processing_class=tokenizer if processing_class is None else processing_class,
            model_init=model_init,
            callbacks=callbacks,
            optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        network = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        self._takes_logits_to_keep = "logits_to_keep" in inspect.signature(network.forward).parameters
        self._parameters: int = sum(parameter.numel() for parameter in network.parameters())
        for rows in _all_rows(self.train_dataset, self.eval_dataset):
            rows.check_fits(
                network.get_input_embeddings().num_embeddings, getattr(network.config, "max_position_embeddings", None)
            )
        reference = frozen_copy(self.model) if ref_model is None else frozen(ref_model)
        self._move_model_to_device(reference, self.args.device)
        self.reference = FrozenModel(reference)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer, by the name it had before transformers 5."""
        return self.processing_class

    # ---- one batch -----------------------------------------------------------------------------------------------

    def concatenated_inputs(self, batch: Batch) -> Batch:
        """Chosen and rejected in one batch, chosen first, padded right to one length.

        Args:
            batch: `chosen_*` and `rejected_*`, each (B, T) with a T of its own.

        Returns: `concatenated_*`, (2B, longest T).
        """
        concatenated = {}
        longest = max(batch[f"{side}_input_ids"].shape[1] for side in SIDES)
        padding = {"input_ids": self.padding_value, "attention_mask": 0, "labels": self.label_pad_token_id}
        for name, value in padding.items():
            sides = [right_pad(batch[f"{side}_{name}"], longest, value) for side in SIDES]
            concatenated[f"concatenated_{name}"] = torch.cat(sides)
        return concatenated

    def concatenated_forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One forward pass over chosen and rejected responses together.

        Returns: chosen and rejected log-probabilities, (B,) float32, summed over each response's tokens, in nats; then
            chosen and rejected logits, (B, K, V), of the last K positions: those before them predict no response token.
        """
        inputs = self.concatenated_inputs(batch)
        targets = next_tokens(inputs["concatenated_labels"], self.label_pad_token_id)
        first = int((targets != self.label_pad_token_id).any(0).nonzero()[0])
        kept = targets.shape[1] - first
        logits = model(
            input_ids=inputs["concatenated_input_ids"],
            attention_mask=inputs["concatenated_attention_mask"],
            **({"logits_to_keep": kept} if self._takes_logits_to_keep else {}),
        ).logits[:, -kept:]
        logps = completion_logps(logits, targets[:, -kept:], self.label_pad_token_id).sum(1)
        chosen, rejected = logps.chunk(2)
        chosen_logits, rejected_logits = logits.chunk(2)
        return chosen, rejected, chosen_logits, rejected_logits

    def dpo_loss(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
        reference_free: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and rewards of a batch of pairs.

        Args:
            policy_chosen_logps: (B,), log-probabilities of the chosen responses under the policy.
            policy_rejected_logps: (B,), of the rejected ones.
            reference_chosen_logps: (B,), of the chosen ones under the reference.
            reference_rejected_logps: (B,), of the rejected ones.
            reference_free: the loss takes a reference that finds all responses equally likely; rewards keep theirs.

        Returns: losses, chosen rewards, rejected rewards, each (B,); the rewards without a graph.
        """
        chosen_rewards = self.beta * (policy_chosen_logps - reference_chosen_logps).detach()
        rejected_rewards = self.beta * (policy_rejected_logps - reference_rejected_logps).detach()
        if reference_free:
            reference_chosen_logps = reference_rejected_logps = torch.zeros_like(policy_chosen_logps)
        available = {
            "chosen_logratios": policy_chosen_logps - reference_chosen_logps,
            "rejected_logratios": policy_rejected_logps - reference_rejected_logps,
        }
        loss = LOSSES[self.loss_type]
        options = {"beta": self.beta} if "beta" in options_of(loss) else {}
        losses = loss(*(available[name] for name in inputs_of(loss)), **options)
        return losses, chosen_rewards, rejected_rewards

    def get_batch_metrics(
        self, model: nn.Module, batch: Batch, train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of a batch, and its metrics by name; "eval_" before each in evaluation."""
        losses, table = self._measure(model, batch)
        prefix = "eval_" if train_eval == "eval" else ""
        means = table.mean(0).tolist()
        return losses.mean(), {f"{prefix}{name}": value for name, value in zip(METRICS, means, strict=True)}

    def _measure(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Losses (B,) with their graph, and all `METRICS` of each pair as a (B, len(METRICS)) table without."""
        chosen, rejected, chosen_logits, rejected_logits = self.concatenated_forward(model, batch)
        with self.accelerator.autocast():
            reference = self.reference.logps(lambda network, rows: self.concatenated_forward(network, rows)[:2], batch)
        losses, chosen_rewards, rejected_rewards = self.dpo_loss(chosen, rejected, *reference)
        columns = (
            losses,
            chosen_rewards,
            rejected_rewards,
            chosen_rewards > rejected_rewards,
            chosen_rewards - rejected_rewards,
            chosen,
            rejected,
            *self._mean_logits(chosen_logits, rejected_logits, batch),
        )
        return losses, torch.stack([column.detach().float() for column in columns], dim=1)

    @torch.no_grad()
    def _mean_logits(self, chosen: Tensor, rejected: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean logit of either side, (B,) each: over the vocabulary and the positions that predict a response token."""
        logits = torch.cat([chosen.mean(-1, dtype=torch.float32), rejected.mean(-1, dtype=torch.float32)])
        targets = next_tokens(self.concatenated_inputs(batch)["concatenated_labels"], self.label_pad_token_id)
        predicted = targets[:, -logits.shape[1] :] != self.label_pad_token_id
        chosen_mean, rejected_mean = ((logits * predicted).sum(1) / predicted.sum(1)).chunk(2)
        return chosen_mean, rejected_mean

    # ---- training and evaluation ---------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's share of its optimizer step's loss; its metrics are added to those since the last log.

        Args:
            model: the policy as it is wrapped for training.
            inputs: a batch.
            return_outputs: also return the (B, len(METRICS)) table of what was measured.
            num_items_in_batch: pairs of the whole optimizer step, over all ranks; None for those of this batch.
        """
        losses, table = self._measure(model, inputs)
        sums = torch.cat([table.sum(0), table.new_tensor([len(table)])])
        self._sums = sums if self._sums is None else self._sums + sums
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            # Gradients are averaged over ranks where this is a sum over ranks.
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, {"table": table}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Pairs of an optimizer step: over its micro-batches and over all ranks."""
        pairs = torch.tensor(sum(pairs_in(batch) for batch in batch_samples), device=device)
        total: Tensor = self.accelerator.reduce(pairs, "sum")
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean metrics of all pairs since the last training record; one reduction over ranks."""
        if "loss" in logs and self._sums is not None:
            *sums, pairs = self.accelerator.reduce(self._sums, "sum").tolist()
            # The loss is Trainer's own, the mean of the steps' losses: a short last step counts like the others.
            logs |= {name: value / pairs for name, value in zip(METRICS, sums, strict=True) if name != "loss"}
            self._sums = None
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor, None]:
        """Loss and (B, len(METRICS)) table of a batch; `evaluation_loop` wants every pair, so never the loss only."""
        with torch.no_grad(), self.compute_loss_context_manager():
            losses, table = self._measure(model, self._prepare_inputs(inputs))
        return losses.mean(), table, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Evaluation with the metrics as means over pairs; `predictions` is the (pairs, len(METRICS)) table of them."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        means = output.predictions.mean(0, dtype="float64").tolist()
        output.metrics.update({f"{metric_key_prefix}_{name}": mean for name, mean in zip(METRICS, means, strict=True)})
        return output

    def floating_point_ops(self, inputs: Batch) -> int:
        """Operations of a batch: per parameter and token, 6 for training the policy and 2 for asking the reference."""
        tokens = sum(inputs[f"{side}_input_ids"].numel() for side in SIDES)
        return 8 * tokens * self._parameters

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        return data_collator


def _own_copy(args: TrainingArguments) -> TrainingArguments:
    """The arguments as this trainer needs them, the user's object left as it is."""
    args = copy.copy(args)
    args.remove_unused_columns = False
    args.logging_nan_inf_filter = False  # a NaN is an error here, not something to leave out of a mean
    args.batch_eval_metrics = False
    args.eval_do_concat_batches = True
    args.dataloader_pin_memory = args.dataloader_pin_memory and torch.cuda.is_available()
    return args


def _one_beta(argument: float, configured: float | None) -> float:
    """The beta of the constructor or of the configuration, whichever was given."""
    default = inspect.signature(DPOTrainer).parameters["beta"].default
    if configured is not None and argument not in (default, configured):
        raise UsageError(f"beta is {argument} in DPOTrainer(beta=...) and {configured} in its args: give it once.")
    return argument if configured is None else configured


def _all_rows(*data: Any) -> Iterator[PairRows]:
    """The tokenized sets among training and evaluation data."""
    for part in data:
        if isinstance(part, Mapping):
            yield from _all_rows(*part.values())
        elif isinstance(part, PairRows):
            yield part


def _as_rows(dataset: Any, name: str) -> Any:
    if isinstance(dataset, Mapping):
        return {key: _as_rows(value, f"{name} {key!r}") for key, value in dataset.items()}
    return PairRows(dataset, name) if isinstance(dataset, datasets.Dataset) else dataset


def _disable_dropout(model: nn.Module | None) -> None:
    """Set all dropout probabilities of a model to 0: of Dropout modules, and of those that attention reads itself."""
    for module in model.modules() if model is not None else ():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
