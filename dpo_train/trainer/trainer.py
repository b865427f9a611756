"""DPOTrainer: direct preference optimisation as a transformers Trainer."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput
from transformers.utils import logging

from dpo_data.errors import UsageError
from dpo_train.attention.kernels import shared_prefixes
from dpo_train.attention.probe import disagreement
from dpo_train.attention.support import unsupported_reason
from dpo_train.batches.batch import SIDES, Batch, pairs_in, tokens_in
from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.packed import SharedPrefixCollator, StepCollator
from dpo_train.batches.padded import DPODataCollatorWithPadding, left_aligned_prompts, right_pad, unpadded
from dpo_train.batches.sampler import StepSampler
from dpo_train.config import DEFAULT_BETA, DPOConfig, loss_options, resolve_alias, resolve_beta, trainer_arguments
from dpo_train.data.rows import PairRows
from dpo_train.data.text import Truncation, as_rows
from dpo_train.diagnosis import PATIENCE, not_finite, why_nothing_is_learned, why_policy_is_not_reference
from dpo_train.logprobs.packed import packed_logps
from dpo_train.logprobs.padded import completion_logps, next_tokens
from dpo_train.losses import LOSSES, inputs_of, needs_reference
from dpo_train.memory.allocator import disable_malloc_trim, suggested_tokens
from dpo_train.models import (
    load_model,
    router_weight,
    with_adapter,
    without_adapter,
    without_dropout,
)
from dpo_train.reference.live import (
    FrozenModel,
    FunctionalModel,
    InitialPolicy,
    ModelOnDemand,
    NoReference,
    Reference,
    frozen,
    own_reference,
)
from dpo_train.reference.precompute import Precomputed
from dpo_train.reference.store import ReferenceStore
from dpo_train.sharding import is_sharded, reshard
from dpo_train.trainer.checkpoints import newest_checkpoint, require_whole

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


logger = logging.get_logger(__name__)

#: Tokens of prompt and sample together, where no max_length is given.
_SAMPLE_LENGTH = 512
#: Rows among which the shortest are taken to compare the two paths on.
_PROBED_AMONG = 256
#: Tokens of a sequence of theirs that are compared whatever the budget.
_PROBED_TOKENS = 64

Data: TypeAlias = Any  # datasets.Dataset | datasets.IterableDataset | str | Path, none of which mypy can see


class _Forward(NamedTuple):
    """What a padded forward pass gives: (B,), (B,), (B, K, V), (B, K, V), and a router loss where the model has one."""

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_logits: Tensor
    rejected_logits: Tensor
    router_loss: Tensor | None


class _Policy(NamedTuple):
    """What the policy makes of the pairs of a batch, (B,) each; the mean logits have no graph."""

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_mean_logits: Tensor
    rejected_mean_logits: Tensor
    router_loss: Tensor | None = None


#: What else stands in the table of a batch, behind `METRICS`.
COLUMNS = (*METRICS, "reference_logps/chosen", "reference_logps/rejected")


class DPOTrainer(Trainer):  # type: ignore[misc]
    """Trains a causal language model to prefer the chosen over the rejected response of each pair.

    The loss of an optimizer step is the sum over its pairs divided by its pairs, however they are spread over
    micro-batches and ranks. Metrics are means over pairs.

    Args:
        model: the policy.
        ref_model: the reference, also as a path or hub id; None for the policy as it is before its first step.
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
        model: PreTrainedModel | nn.Module | str | None = None,
        ref_model: PreTrainedModel | nn.Module | str | ModelOnDemand | None = None,
        beta: float = DEFAULT_BETA,
        args: TrainingArguments | None = None,
        data_collator: Callable[..., Batch] | None = None,
        label_pad_token_id: int = -100,
        padding_value: int = 0,
        truncation_mode: str = "keep_end",
        train_dataset: Data | None = None,
        eval_dataset: Data | Mapping[str, Data] | None = None,
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
        args = trainer_arguments(args or DPOConfig())
        tokenizer = resolve_alias(tokenizer, processing_class, "tokenizer", "processing_class")
        if isinstance(ref_model, nn.Module) and ref_model is model:
            raise UsageError(
                "ref_model is the model itself, which would be compared with what it has just learned.\n"
                "  Leave it out: without ref_model, the reference is the model as it is before the first step."
            )
        self.beta = resolve_beta(beta, getattr(args, "beta", None))
        self.loss_type: str = getattr(args, "loss_type", "sigmoid")
        self.loss_options = loss_options(self.loss_type, self.beta, args)
        self.reference_free: bool = getattr(args, "reference_free", False)
        if self.reference_free and not needs_reference(LOSSES[self.loss_type]):
            raise UsageError(f"the loss {self.loss_type} has no reference anyway: leave out reference_free.")
        self.label_pad_token_id = label_pad_token_id
        self.padding_value = padding_value
        self.truncation_mode = truncation_mode
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.peft_config = peft_config
        self.disable_dropout = disable_dropout
        # Kept from Trainer, which would hand it the table of what is measured of every pair.
        self._preprocess_logits = preprocess_logits_for_metrics
        self._sampler: StepSampler | None = None
        self._sums: Tensor | None = None
        self._bad_row: Tensor | None = None
        self._trained: list[tuple[int, Tensor, Tensor]] = []
        #: What the last evaluation measured of every pair, (pairs, len(COLUMNS)).
        self.evaluated: np.ndarray | None = None
        self._agreement_checked = self._silence_explained = self._training_began = self._trained_before = False

        set_seed(args.seed)  # what is drawn here, an adapter's weights, is drawn alike in every run
        if isinstance(data_collator, DPODataCollatorWithPadding) or data_collator is None:
            truncation = Truncation(max_length, max_prompt_length, truncation_mode)
            self._read = functools.partial(as_rows, tokenizer=tokenizer, truncation=truncation)
            train_dataset = self._read(train_dataset, name="the training set", split="train")
            eval_dataset = self._read(eval_dataset, name="the evaluation set", split="test")
        elif (max_length, max_prompt_length, truncation_mode) != (None, None, "keep_end"):
            raise UsageError(
                "max_length, max_prompt_length and truncation_mode are the data_collator's to know, if given."
            )
        super().__init__(
            model=None if model is None else self._prepare_policy(model),
            args=args,
            data_collator=data_collator or DPODataCollatorWithPadding(label_pad_token_id, padding_value),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            # transformers asks how many arguments a model_init takes; the seed's takes none.
            model_init=None if model_init is None else lambda: model_init(),
            callbacks=callbacks,
            optimizers=optimizers,
        )
        if self.args.device.type == "cpu":
            disable_malloc_trim()
        network = without_adapter(self.model)
        self._takes_logits_to_keep = "logits_to_keep" in inspect.signature(network.forward).parameters
        self._parameters: int = sum(parameter.numel() for parameter in network.parameters())
        self._router_weight = router_weight(network.config)
        self._check_data(network)
        self._own_reference = ref_model is None
        #: Why prompts are not shared, in words; None where they are.
        self.why_padded = self._why_padded(data_collator, preprocess_logits_for_metrics)
        self._probed = self.why_padded is not None
        self.reference = self._make_reference(ref_model)

    def _prepare_policy(self, model: Any) -> Any:
        """The model to train: loaded where a name is given, with its adapter, and without dropout."""
        model = with_adapter(load_model(model), self.peft_config)
        return without_dropout(model) if self.disable_dropout else model

    def call_model_init(self, trial: Any = None) -> Any:
        """A new policy from `model_init`."""
        return self._prepare_policy(super().call_model_init(trial))

    def _make_reference(self, ref_model: Any) -> Reference:
        if self.reference_free or not needs_reference(LOSSES[self.loss_type]):
            if ref_model is not None:
                raise UsageError(f"the loss {self.loss_type} compares with no reference here: leave out ref_model.")
            return NoReference()
        precompute = self._precomputes
        if ref_model is None:
            if precompute and not hasattr(self.model, "disable_adapter"):
                live: Reference = InitialPolicy(self.model, lambda: self._training_began)
            else:
                live = own_reference(self.model)
        elif isinstance(ref_model, ModelOnDemand):
            live = dataclasses.replace(ref_model, load=lambda: self._prepare_reference(ref_model.load()))
        elif isinstance(ref_model, str):
            live = ModelOnDemand(ref_model, lambda: self._prepare_reference(load_model(ref_model)))
        else:
            live = FrozenModel(self._prepare_reference(ref_model))
        return Precomputed(live, ReferenceStore()) if precompute else live

    def _prepare_reference(self, model: Any) -> Any:
        reference: Any = frozen(model)
        if hasattr(reference, "config"):
            reference.config.use_cache = self.args.use_cache
        if self.disable_dropout:
            reference = without_dropout(reference)
        self._move_model_to_device(reference, self.args.device)
        return reference

    @property
    def _precomputes(self) -> bool:
        """Whether each response's reference log-probability is computed once and kept."""
        wanted = getattr(self.args, "precompute_reference", None)
        # Engines that wrap the model later leave nothing here that could be asked before training.
        possible = self.why_padded is None and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        if wanted and not possible:
            raise UsageError(f"precompute_reference needs shared prompts: {self.why_padded or 'not with this engine'}.")
        return possible and wanted is not False

    def _model_to_device(self) -> None:
        if self.place_model_on_device:
            self._move_model_to_device(self.model, self.args.device)

    def _check_data(self, network: Any) -> None:
        """Refuse rows that model or loss cannot take."""
        for rows in _all_rows(self.train_dataset, self.eval_dataset):
            rows.check_fits(
                network.get_input_embeddings().num_embeddings, getattr(network.config, "max_position_embeddings", None)
            )
            if "score_margins" in inputs_of(LOSSES[self.loss_type]) and not rows.has_scores:
                raise UsageError(
                    f"{rows.name}: the loss {self.loss_type} needs chosen_score and rejected_score of every pair."
                )

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
        return self._forward(model, batch)[:4]

    def _forward(self, model: nn.Module, batch: Batch) -> "_Forward":
        inputs = self.concatenated_inputs(batch)
        targets = next_tokens(inputs["concatenated_labels"], self.label_pad_token_id)
        first = int((targets != self.label_pad_token_id).any(0).nonzero()[0])
        kept = targets.shape[1] - first
        output = model(
            input_ids=inputs["concatenated_input_ids"],
            attention_mask=inputs["concatenated_attention_mask"],
            **({"logits_to_keep": kept} if self._takes_logits_to_keep else {}),
        )
        logits = output.logits[:, -kept:]
        logps = completion_logps(logits, targets[:, -kept:], self.label_pad_token_id).sum(1)
        (chosen, rejected), (chosen_logits, rejected_logits) = logps.chunk(2), logits.chunk(2)
        return _Forward(chosen, rejected, chosen_logits, rejected_logits, getattr(output, "aux_loss", None))

    def dpo_loss(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
        reference_free: bool = False,
        **terms: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and rewards of a batch of pairs.

        Args:
            policy_chosen_logps: (B,), log-probabilities of the chosen responses under the policy.
            policy_rejected_logps: (B,), of the rejected ones.
            reference_chosen_logps: (B,), of the chosen ones under the reference.
            reference_rejected_logps: (B,), of the rejected ones.
            reference_free: the loss takes a reference that finds all responses equally likely; rewards keep theirs.
            terms: what else the loss takes, (B,) each, by the names of `dpo_train.losses`.

        Returns: losses, chosen rewards, rejected rewards, each (B,); the rewards without a graph. A reward is beta
            times the log-ratio; of losses without a reference, beta times the log-probability per token.
        """
        loss = LOSSES[self.loss_type]
        chosen_rewards = self.beta * (policy_chosen_logps - reference_chosen_logps).detach()
        rejected_rewards = self.beta * (policy_rejected_logps - reference_rejected_logps).detach()
        if reference_free:
            reference_chosen_logps = reference_rejected_logps = torch.zeros_like(policy_chosen_logps)
        available = terms | {
            "chosen_logratios": policy_chosen_logps - reference_chosen_logps,
            "rejected_logratios": policy_rejected_logps - reference_rejected_logps,
            "chosen_logps": policy_chosen_logps,
            "rejected_logps": policy_rejected_logps,
        }
        losses = loss(*(available[name] for name in inputs_of(loss)), **self.loss_options)
        if not needs_reference(loss):
            chosen_rewards = chosen_rewards / terms["chosen_tokens"]
            rejected_rewards = rejected_rewards / terms["rejected_tokens"]
        return losses, chosen_rewards, rejected_rewards

    def get_batch_metrics(
        self, model: nn.Module, batch: Batch, train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of a batch, and its metrics by name; "eval_" before each in evaluation."""
        losses, table, _ = self._measure(model, batch)
        prefix = "eval_" if train_eval == "eval" else ""
        means = table.mean(0).tolist()
        return losses.mean(), {f"{prefix}{name}": value for name, value in zip(METRICS, means, strict=False)}

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Texts that policy and reference write to a batch's prompts: `get_batch_samples(model, batch)`.

        transformers.Trainer has another method of this name, which collects the micro-batches of a step; it is meant
        wherever the first argument is no model.
        """
        first = args[0] if args else kwargs.get("model")
        if isinstance(first, nn.Module):
            return self._write_samples(*args, **kwargs)
        self._check_finite()
        return super().get_batch_samples(*args, **kwargs)

    def _write_samples(self, model: Any, batch: Batch) -> tuple[list[str], list[str]]:
        return self.texts_by(self.accelerator.unwrap_model(model), batch), self.texts_by(self.reference, batch)

    def texts_by(self, writer: Any, batch: Batch) -> list[str]:
        """What a model or reference writes to the prompts of a padded batch.

        Raises:
            UsageError: there is no tokenizer; or the reference was the policy, which has been trained since.
        """
        if self.tokenizer is None:
            raise UsageError("get_batch_samples writes text, which needs DPOTrainer(tokenizer=...).")
        padding = self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        input_ids, attention_mask = left_aligned_prompts(
            self._prepare_inputs(batch), ignored=self.label_pad_token_id, padding=padding
        )
        longest = self.max_length or _SAMPLE_LENGTH
        longest = min(longest, getattr(self.model.config, "max_position_embeddings", longest))
        options = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "max_new_tokens": max(longest - input_ids.shape[1], 1),
            "do_sample": True,
            "use_cache": True,
            "pad_token_id": padding,
        }
        with torch.no_grad():
            written = writer.generate(**options)
        texts: list[str] = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return texts

    def _measure(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Losses (B,) with their graph, all `COLUMNS` of each pair without, (B, len(COLUMNS)), and the router loss.

        The router loss is that of a mixture of experts which asks for one; None for other models.
        """
        if self.why_padded is None and "segments" not in batch:
            batch = self._prepare_inputs(SharedPrefixCollator()(unpadded(batch, self.label_pad_token_id)))
        packed = "segments" in batch
        untrained = self._own_reference and self.state.global_step == 0 and not self._trained_before
        if packed:
            sums, means = self._packed(model, batch)
            if untrained and isinstance(self.reference, Precomputed):
                self.reference.learn(batch, sums.detach(), self._rounding)
            policy = _of_pairs(batch, sums, means)
        else:
            policy = self._padded_policy(model, batch)
        reference = self._reference_logps(batch)
        if untrained:
            # Rounding alone would make the accuracy of a policy that has learned nothing a coin toss.
            chosen, rejected = reference
            reference = self._rounded(chosen, policy.chosen_logps), self._rounded(rejected, policy.rejected_logps)
        terms: dict[str, Any] = self._terms(batch)
        losses, chosen_rewards, rejected_rewards = self.dpo_loss(
            policy.chosen_logps, policy.rejected_logps, *reference, **terms
        )
        columns = (
            losses,
            chosen_rewards,
            rejected_rewards,
            chosen_rewards > rejected_rewards,
            chosen_rewards - rejected_rewards,
            *policy[:4],
            *reference,
        )
        return losses, torch.stack([column.detach().float() for column in columns], dim=1), policy.router_loss

    def _rounded(self, known: Tensor, found: Tensor) -> Tensor:
        """`found` where `known` differs from it by rounding, (B,)."""
        return torch.where((known - found).abs() <= self._rounding * (1 + known.abs()), found.detach(), known)

    def _packed(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and mean logits of the responses of a packed batch, (R,) each."""
        network = self.accelerator.unwrap_model(model)
        network = without_adapter(network.policy if isinstance(network, FunctionalModel) else network)
        with shared_prefixes(network):
            return packed_logps(model, network, batch)

    def _padded_policy(self, model: nn.Module, batch: Batch) -> _Policy:
        router_loss = None
        if type(self).concatenated_forward is DPOTrainer.concatenated_forward:
            *found, router_loss = self._forward(model, batch)
        else:
            found = [*self.concatenated_forward(model, batch)]
        chosen, rejected, chosen_logits, rejected_logits = found
        return _Policy(chosen, rejected, *self._mean_logits(chosen_logits, rejected_logits, batch), router_loss)

    def _reference_logps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of chosen and rejected responses, (B,) each."""
        with self.accelerator.autocast():
            if "segments" not in batch or isinstance(self.reference, NoReference):
                logps: tuple[Tensor, Tensor] = self.reference.logps(
                    lambda network, rows: self.concatenated_forward(network, rows)[:2], batch
                )
                return logps
            sums = self.reference.logps(lambda network, rows: self._packed(network, rows)[0], batch)
        return sums[batch["chosen"]], sums[batch["rejected"]]

    @property
    def _compute_dtype(self) -> torch.dtype:
        """What matrix products are computed in."""
        mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.accelerator.mixed_precision)
        dtype: torch.dtype = mixed or next(self.model.parameters()).dtype
        return dtype

    @property
    def _rounding(self) -> float:
        """By how much, relatively, two computations of a log-probability may differ for no other reason."""
        return 1e-4 if self._compute_dtype.itemsize >= torch.float32.itemsize else 3e-2

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        """What the loss and the rewards want to know of the pairs themselves; nothing for most losses."""
        loss = LOSSES[self.loss_type]
        if "segments" in batch:
            available = {f"{side}_tokens": batch["tokens"][batch[side]] for side in SIDES}
        else:
            available = {
                f"{side}_tokens": (batch[f"{side}_labels"] != self.label_pad_token_id).sum(1) for side in SIDES
            }
        wanted = set(inputs_of(loss)) | (set() if needs_reference(loss) else set(available))
        if "score_margin" in batch:
            available["score_margins"] = batch["score_margin"]
        return {name: value for name, value in available.items() if name in wanted}

    @torch.no_grad()
    def _mean_logits(self, chosen: Tensor, rejected: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean logit of either side, (B,) each: over the vocabulary and the positions that predict a response token."""
        targets = next_tokens(self.concatenated_inputs(batch)["concatenated_labels"], self.label_pad_token_id)
        targets = targets[:, -chosen.shape[1] :]
        if self._preprocess_logits is not None and not self.model.training:
            chosen, rejected = self._preprocess_logits(torch.cat([chosen, rejected]), targets).chunk(2)
        means = torch.cat([chosen.mean(-1, dtype=torch.float32), rejected.mean(-1, dtype=torch.float32)])
        predicted = targets != self.label_pad_token_id
        chosen_mean, rejected_mean = ((means * predicted).sum(1) / predicted.sum(1)).chunk(2)
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
            return_outputs: also return the (B, len(COLUMNS)) table of what was measured.
            num_items_in_batch: pairs of the whole optimizer step, over all ranks; None for those of this batch.
        """
        losses, table, router_loss = self._measure(model, inputs)
        weights = inputs.get("weight", torch.ones_like(losses))
        self._look_at(losses.detach(), table, inputs)
        sums = torch.cat([table, torch.ones_like(table[:, :1])], dim=1).T @ weights
        self._sums = sums if self._sums is None else self._sums + sums
        pairs = weights.sum()
        loss = (losses * weights).sum()
        if router_loss is not None and self._router_weight:
            loss = loss + self._router_weight * router_loss * pairs
        # Gradients are averaged over ranks where this is a sum over ranks.
        share = pairs if num_items_in_batch is None else num_items_in_batch / self.accelerator.num_processes
        return (loss / share, {"table": table}) if return_outputs else loss / share

    def _look_at(self, losses: Tensor, table: Tensor, batch: Batch) -> None:
        """Remember the first pair whose loss is no number; before the first step, check that nothing is learned yet."""
        bad = ~torch.isfinite(losses)
        rows = batch.get("row", torch.zeros_like(losses, dtype=torch.int64))
        first_bad = torch.where(bad, rows, torch.iinfo(torch.int64).max).min()
        if "row" in batch:
            counted = rows if "weight" not in batch else rows.where(batch["weight"] > 0, -1)
            self._trained.append((self.state.global_step + 1, counted, table))
        self._bad_row = first_bad if self._bad_row is None else torch.minimum(self._bad_row, first_bad)
        if self.state.global_step == 0 and self._own_reference and not self._agreement_checked:
            self._agreement_checked = True
            margins, logps = table[:, METRICS.index("rewards/margins")], table[:, METRICS.index("logps/chosen")]
            # float32 log-probabilities of one sequence, computed twice, differ by about 1e-6 of their size
            tolerance = 1e-4 * self.beta * (1 + logps.abs().max())
            if not isinstance(self.reference, NoReference) and margins.abs().max() > tolerance:
                weight = next(self._reference_model.parameters(), None)
                reason = why_policy_is_not_reference(self.model, None if weight is None else weight.dtype)
                logger.warning(
                    f"Before the first step policy and reference should agree, but a margin is "
                    f"{margins.abs().max():.3g} and the loss {losses.mean():.4f}: {reason}."
                )

    @property
    def _reference_model(self) -> nn.Module:
        """The reference's own model; one without weights where it has none."""
        live = self.reference.live if isinstance(self.reference, Precomputed) else self.reference
        return live.model if isinstance(live, FrozenModel) else nn.Module()

    def _check_finite(self) -> None:
        """Stop at a loss that is no number. Called once a step, because asking the device makes it wait.

        Raises:
            NotFiniteError: naming the pair.
        """
        if self._bad_row is not None and (row := int(self._bad_row)) != torch.iinfo(torch.int64).max:
            rows = self.train_dataset
            origin = rows.origin(row) if isinstance(rows, PairRows) else "a pair of the training set"
            raise not_finite(origin, self.state.global_step)
        self._bad_row = None

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Pairs of an optimizer step: over its micro-batches and over all ranks."""
        pairs = torch.tensor(sum(pairs_in(batch) for batch in batch_samples), device=device)
        total: Tensor = self.accelerator.reduce(pairs, "sum")
        return total

    def get_train_dataloader(self) -> Any:
        """Micro-batches whose steps hold the same pairs for any number of ranks and micro-batches."""
        rows, args = self.train_dataset, self.args
        if rows is None or not hasattr(rows, "__len__"):
            return super().get_train_dataloader()
        if args.train_sampling_strategy not in ("random", "sequential"):
            raise UsageError(f"train_sampling_strategy {args.train_sampling_strategy}: choose from random, sequential.")
        self.choose_path()
        self._sampler = self._make_sampler()
        return self._loader(rows, self._sampler, self.data_collator if self.why_padded else StepCollator())

    def _make_sampler(self) -> StepSampler:
        args, rows = self.args, self.train_dataset
        seed = args.seed if args.data_seed is None else args.data_seed
        shared = self.why_padded is None
        return StepSampler(
            len(rows),
            micro_batch=self._train_batch_size or args.train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            ranks=self.accelerator.num_processes,
            seed=seed if args.train_sampling_strategy == "random" else None,
            drop_last=args.dataloader_drop_last,
            prompts=rows.prompts if shared and not getattr(args, "scatter_prompts", False) else None,
            budget=TokenBudget(rows, self.most_tokens) if shared else None,
        )

    def _loader(self, rows: PairRows, sampler: Any, collate: Any) -> Any:
        args = self.args
        loader = torch.utils.data.DataLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Batches of an evaluation set, in its order; reference log-probabilities that are not known yet are made."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, str) and isinstance(self.eval_dataset, Mapping):
            rows = self.eval_dataset[rows]
        if isinstance(rows, datasets.Dataset) and isinstance(self.data_collator, DPODataCollatorWithPadding):
            rows = self._read(rows, name="the evaluation set", split="test")
        self.choose_path()
        if self.why_padded is not None or not isinstance(rows, PairRows):
            return super().get_eval_dataloader(rows if eval_dataset is not None else None)
        self._fill_reference(rows, np.arange(len(rows)))
        sampler = torch.utils.data.BatchSampler(
            torch.utils.data.SequentialSampler(rows), self.args.eval_batch_size, drop_last=False
        )
        return self._loader(rows, sampler, SharedPrefixCollator())

    # ---- each token once -----------------------------------------------------------------------------------------

    @property
    def most_tokens(self) -> int:
        """Distinct tokens of one micro-batch on the shared path."""
        given: int | None = getattr(self.args, "max_tokens_per_microbatch", None)
        return given or suggested_tokens(without_adapter(self.model), self.args.device)

    def _why_padded(self, data_collator: Any, preprocess_logits: Any) -> str | None:
        """Why prompts cannot be shared, as far as it is known before anything is computed.

        Raises:
            UsageError: it was asked for, and cannot be.
        """
        asked = getattr(self.args, "attention_path", "auto")
        own = {"concatenated_forward", "concatenated_inputs"}
        changed = [name for name in sorted(own) if getattr(type(self), name) is not getattr(DPOTrainer, name)]
        sets = [*_all_data(self.train_dataset, self.eval_dataset)]
        if asked == "padded":
            return "asked for"
        if changed:
            reason: str | None = f"{type(self).__name__} has a {changed[0]} of its own"
        elif data_collator is not None:
            reason = "the data_collator is the user's"
        elif preprocess_logits is not None:
            reason = "preprocess_logits_for_metrics wants the logits"
        elif not all(isinstance(rows, PairRows) for rows in sets):
            reason = "a data set is iterable"
        elif self.args.n_gpu > 1:
            reason = "one process drives several GPUs; start it with torchrun"
        else:
            reason = unsupported_reason(self.model)
        if reason is not None and asked == "shared":
            raise UsageError(f"attention_path is shared, and prompts cannot be shared: {reason}.")
        return reason

    def choose_path(self) -> None:
        """Compute a real batch both ways, once, before anything is trained; share prompts only where they agree."""
        if self._probed:
            return
        self._probed = True
        rows = next(_all_data(self.train_dataset, self.eval_dataset), None)
        if rows is None:
            return
        self._model_to_device()
        shortest = np.argsort(rows.pair_lengths[:_PROBED_AMONG], kind="stable")[:2]
        # Two padded sequences a pair, within the budget of a micro-batch.
        pairs = [_cut(rows[int(row)], max(self.most_tokens // (2 * len(shortest)), _PROBED_TOKENS)) for row in shortest]
        packed = self._prepare_inputs(SharedPrefixCollator()(pairs))
        padded = self._prepare_inputs(DPODataCollatorWithPadding(self.label_pad_token_id, self.padding_value)(pairs))
        with self.accelerator.autocast():
            reason = disagreement(
                self.model,
                shared=lambda: _of_pairs(packed, *self._packed(self.model, packed))[:2],
                padded=lambda: self._forward(self.model, padded)[:2],
                dtype=self._compute_dtype,
            )
        if reason is None:
            return
        if getattr(self.args, "attention_path", "auto") == "shared":
            raise UsageError(f"attention_path is shared, and prompts cannot be shared: {reason}.")
        self.why_padded = reason
        if isinstance(self.reference, Precomputed):
            own = isinstance(self.reference.live, InitialPolicy)
            self.reference = own_reference(self.model) if own else self.reference.live
        logger.warning(f"Prompts are not shared, each sequence is padded: {reason}.")

    def _fill_reference(
        self, rows: PairRows, wanted: np.ndarray, spared: Callable[[], np.ndarray] | None = None
    ) -> None:
        """Have the reference's log-probabilities of some rows ready, each response computed by one of the ranks.

        Rows that `spared` names are not computed; it is only asked where something is missing.

        Raises:
            UsageError: a stored value is not what the reference gives.
        """
        if not isinstance(self.reference, Precomputed):
            return
        if (root := getattr(self.args, "reference_cache", None)) is not None:
            self.reference.open_store(Path(root), self.model, self._compute_dtype)
        self.reference.fill(
            rows,
            wanted,
            spared=spared,
            forward=lambda network, batch: self._packed(network, batch)[0],
            most_tokens=2 * self.most_tokens,  # without a gradient, nothing of the layers is kept
            rounding=self._rounding,
            accelerator=self.accelerator,
            show_progress=self.is_world_process_zero() and not self.args.disable_tqdm,
        )

    def fill_reference(self, *, but_first_step: bool = False) -> None:
        """Have the reference's log-probabilities ready that training will want; `train` does so by itself.

        Args:
            but_first_step: leave out what the policy itself says in its first step, where it is its own reference.
        """
        if isinstance(self.train_dataset, PairRows):
            # Other ranks would not hear of what this one learns in its first step.
            alone = self._own_reference and self.accelerator.num_processes == 1
            ahead = getattr(self.args, "precompute_reference", None)
            spare = but_first_step and alone and not ahead
            self._fill_reference(self.train_dataset, self._rows_visited(), self._rows_of_first_step if spare else None)
        if isinstance(self.reference, Precomputed) and isinstance(self.reference.live, InitialPolicy):
            # What is not asked now cannot be asked any more once the policy has changed.
            for rows in _all_rows(self.eval_dataset):
                self._fill_reference(rows, np.arange(len(rows)))

    def _rows_visited(self) -> np.ndarray:
        """The rows of the training set that this run will train on; all where they are asked for ahead of time."""
        most_steps = self.args.max_steps
        if getattr(self.args, "precompute_reference", None) or most_steps <= 0:
            return np.arange(len(self.train_dataset))
        return self._make_sampler().rows_of(most_steps)

    def _rows_of_first_step(self) -> np.ndarray:
        return next(self._make_sampler().steps(0))

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a batch; on the shared path, of each of its micro-batches in turn."""
        if "micro_batches" not in inputs:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        gradient_state = self.accelerator.gradient_state
        synchronises = gradient_state.sync_gradients
        total = torch.zeros((), device=self.args.device)
        if not inputs["micro_batches"]:
            return total
        *first, last = inputs["micro_batches"]
        # Around backward too, which recomputes the attention of checkpointed layers.
        with shared_prefixes(self.model):
            gradient_state._set_sync_gradients(False)
            for batch in first:
                with self.accelerator.no_sync(model):
                    total += super().training_step(model, batch, num_items_in_batch)
            gradient_state._set_sync_gradients(synchronises)
            total += super().training_step(model, last, num_items_in_batch)
        return total

    def _run_epoch(self, *, epoch: int, resume_from_checkpoint: str | None, epochs_trained: int, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True  # a finished run that is resumed would take one step too many
            return
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)  # a loader that skips to where it resumes does not pass the epoch on
        if self.args.fsdp and not is_sharded(self.model):
            raise UsageError(
                "fsdp was asked for and is not active: every process would hold the whole model, without a word.\n"
                "  On CPU, load the model with distributed_config=DistributedConfig(fsdp_size=...) and leave out fsdp."
            )
        if epoch == epochs_trained:
            self._sums = self._bad_row = None
            self._trained = []
            if resume_from_checkpoint is not None:
                self._load_pending(Path(resume_from_checkpoint))
        super()._run_epoch(
            epoch=epoch, resume_from_checkpoint=resume_from_checkpoint, epochs_trained=epochs_trained, **kwargs
        )

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; `resume_from_checkpoint=True` goes on from the newest checkpoint that was saved to its end.

        Raises:
            UsageError: there is no such checkpoint, or it lacks a part of the state.
            NotFiniteError: the loss became NaN or infinite.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(newest_checkpoint(Path(self.args.output_dir)))
        if resume_from_checkpoint:
            require_whole(Path(resume_from_checkpoint))
        self.choose_path()
        self._trained_before = self._training_began
        self.fill_reference(but_first_step=not (self._trained_before or resume_from_checkpoint))
        self._training_began = True
        reshard(self.model)
        output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)
        self._check_finite()
        if isinstance(self.reference, Precomputed):
            self.reference.store.save()
        return output

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint, with what was summed up since the last log: transformers would forget that."""
        self._check_finite()
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        pending = {
            "loss": self._tr_loss.item(),
            "last_logged": self._globalstep_last_logged,
            "sums": None if self._sums is None else self._sums.tolist(),
        }
        (folder / self._pending_name).write_text(json.dumps(pending), encoding="utf-8")
        super()._save_checkpoint(model, trial)

    def _load_pending(self, checkpoint: Path) -> None:
        if (file := checkpoint / self._pending_name).exists():
            pending = json.loads(file.read_text(encoding="utf-8"))
            self._tr_loss.fill_(pending["loss"])
            self._globalstep_last_logged = pending["last_logged"]
            if pending["sums"] is not None:
                self._sums = torch.tensor(pending["sums"], device=self.args.device)

    @property
    def _pending_name(self) -> str:
        return f"pending_{self.args.process_index}.json"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean metrics of all pairs since the last training record; one reduction over ranks."""
        if "loss" in logs and self._sums is not None:
            self._check_finite()
            *sums, pairs = self.accelerator.reduce(self._sums, "sum").tolist()
            # The loss is Trainer's own, the mean of the steps' losses: a short last step counts like the others.
            logs |= {name: value / pairs for name, value in zip(METRICS, sums, strict=False) if name != "loss"}
            self._sums = None
            self._trained = [(step, rows.cpu(), table.cpu()) for step, rows, table in self._trained]
            self._explain_silence(logs)
        super().log(logs, start_time)

    def _explain_silence(self, logs: dict[str, float]) -> None:
        """Say why, once, where some steps have changed nothing at all."""
        if (
            logs["rewards/margins"] != 0
            or self.state.global_step < PATIENCE
            or self._silence_explained
            or isinstance(self.reference, NoReference)
        ):
            return
        self._silence_explained = True
        reason = why_nothing_is_learned(
            self.model, beta=self.beta, learning_rate=logs.get("learning_rate", 0.0), reference=self._reference_model
        )
        logger.warning(f"After {self.state.global_step} steps the loss is still {logs['loss']:.4f}: {reason}.")

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor, None]:
        """Loss and (B, len(COLUMNS)) table of a batch; `evaluation_loop` wants every pair, so never the loss only."""
        with torch.no_grad(), self.compute_loss_context_manager():
            losses, table, _ = self._measure(model, self._prepare_inputs(inputs))
        return losses.mean(), table, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Evaluation with the metrics as means over pairs; `predictions` is the (pairs, len(COLUMNS)) table of them."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        self.evaluated = output.predictions
        means = output.predictions.mean(0, dtype="float64").tolist()
        output.metrics.update({f"{metric_key_prefix}_{name}": mean for name, mean in zip(METRICS, means, strict=False)})
        return output

    def trained_pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What training has measured since it began or resumed, oldest first; all ranks must ask together.

        Returns: steps (n,), rows of the training set (n,), and the (n, len(COLUMNS)) table; a pair that was trained on
            twice stands there twice.
        """
        trained = [(step, rows.cpu().numpy(), table.cpu().numpy()) for step, rows, table in self._trained]
        if self.accelerator.num_processes > 1:
            trained = sorted(gather_object(trained), key=lambda batch: batch[0])
        if not trained:
            return np.empty(0, int), np.empty(0, int), np.empty((0, len(COLUMNS)))
        steps = np.concatenate([np.full(len(rows), step) for step, rows, _ in trained])
        rows = np.concatenate([rows for _, rows, _ in trained])
        table = np.concatenate([table for *_, table in trained])
        counted = rows >= 0
        return steps[counted], rows[counted], table[counted]

    def _track_num_input_tokens(self, inputs: Batch) -> None:
        """Count the positions that were computed, padding included."""
        self.state.num_input_tokens_seen += tokens_in(inputs) * self.accelerator.num_processes

    def floating_point_ops(self, inputs: Batch) -> int:
        """Operations of a batch: per parameter and token, 6 for training the policy and 2 for asking the reference."""
        asked = 0 if isinstance(self.reference, Precomputed | NoReference) else 2
        return (6 + asked) * tokens_in(inputs) * self._parameters

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        return data_collator


def _of_pairs(batch: Batch, sums: Tensor, means: Tensor) -> _Policy:
    """What was found of each response of a packed batch, by pairs."""
    chosen, rejected = batch["chosen"], batch["rejected"]
    return _Policy(sums[chosen], sums[rejected], means[chosen], means[rejected])


def _cut(pair: Mapping[str, Any], most: int) -> dict[str, Any]:
    """A pair with the end of its prompt and the beginnings of its responses, most tokens either side."""
    prompt = pair["prompt_ids"][-(most // 2) :]
    responses = {f"{side}_ids": pair[f"{side}_ids"][: most - len(prompt)] for side in SIDES}
    return {**pair, "prompt_ids": prompt, **responses}


def _all_data(*data: Any) -> Iterator[Any]:
    """The single sets among training and evaluation data."""
    for part in data:
        if isinstance(part, Mapping):
            yield from _all_data(*part.values())
        elif part is not None:
            yield part


def _all_rows(*data: Any) -> Iterator[PairRows]:
    """The tokenized sets among training and evaluation data."""
    return (part for part in _all_data(*data) if isinstance(part, PairRows))
