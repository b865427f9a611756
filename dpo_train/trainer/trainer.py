"""DPOTrainer: direct preference optimization as a transformers Trainer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from transformers.utils import logging

from dpo_data.errors import UsageError
from dpo_train.adapters import with_adapter
from dpo_train.attention.register import shared_prefixes
from dpo_train.batches.batch import StepBatch
from dpo_train.batches.packed import collate_packed, collate_step
from dpo_train.batches.padded import DPODataCollatorWithPadding, concatenate_sides
from dpo_train.batches.sampler import StepSampler
from dpo_train.config import (
    DEFAULT_BETA,
    DPOConfig,
    check_reference,
    make_objective,
    resolve_alias,
    resolve_beta,
    trainer_arguments,
)
from dpo_train.data.rows import PairRows
from dpo_train.data.text import RowReader
from dpo_train.diagnosis import not_finite, warn_if_not_learning
from dpo_train.logprobs.scoring import PackedScorer, PaddedScorer, TensorDict, takes_logits_to_keep
from dpo_train.models import frozen, load_model, router_weight, without_adapter, without_dropout
from dpo_train.reference.factory import make_reference
from dpo_train.reference.live import LiveReference, ModelOnDemand, NoReference, Reference
from dpo_train.reference.precompute import Precomputed
from dpo_train.sharding import is_sharded, reshard
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete
from dpo_train.trainer.comparison import Comparison
from dpo_train.trainer.generation import generate_texts
from dpo_train.trainer.hf_trainer import HFTrainer
from dpo_train.trainer.loaders import check_data, datasets_in, make_loader, make_sampler, pair_rows_in
from dpo_train.trainer.metrics import PairMetrics, by_name, pair_table
from dpo_train.trainer.packing import PADDED_METHODS, Packing, padding_reason
from dpo_train.trainer.whole_step import WholeStep

logger = logging.get_logger(__name__)

Data: TypeAlias = Any  # datasets.Dataset | datasets.IterableDataset | str | Path, none of which mypy can see


class DPOTrainer(HFTrainer):
    """Trains a causal language model to prefer the chosen over the rejected response of each pair.

    The loss of an optimizer step is the sum over its pairs divided by their number, for any number of micro-batches and
    ranks. Metrics are means over pairs.

    Args:
        model: the policy, or its path or Hub id; an adapter that it has is continued.
        ref_model: the reference, or its path or Hub id; None for the policy as it is before its first step.
        beta: how strongly the policy is kept close to the reference.
        args: transformers.TrainingArguments or DPOConfig; not modified.
        data_collator: makes the batches that `concatenated_inputs` takes from rows of the dataset.
        label_pad_token_id: label of prompt and padding tokens.
        padding_value: token id of padding.
        truncation_mode: keep_end or keep_start, which end of a truncated prompt to keep; for texts and messages.
        train_dataset: pairs to train on.
        eval_dataset: pairs to evaluate on, or several such datasets by name.
        tokenizer: tokenizes text, and is saved with the model; `processing_class` is another name for it.
        model_init: returns the policy, instead of `model`.
        callbacks: further callbacks.
        optimizers: optimizer and scheduler, instead of those of `args`.
        preprocess_logits_for_metrics: applied to the logits before `logits/*` are computed, in evaluation.
        max_length: this and max_prompt_length: see `dpo_data.tokenize`; for texts and messages.
        peft_config: makes the policy a new adapter on the model, as an object of peft or a dict; an adapter that the
            model has already is merged.
        disable_dropout: disable dropout in policy and reference, so that they agree before the first step.
        chat_template_kwargs: this, template_date, truncation_unit and keep_system: see `dpo_data.tokenize`.
    """

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | str | None = None,
        ref_model: PreTrainedModel | nn.Module | str | ModelOnDemand | None = None,
        beta: float = DEFAULT_BETA,
        args: TrainingArguments | None = None,
        data_collator: Callable[..., TensorDict] | None = None,
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
        chat_template_kwargs: Mapping[str, Any] | None = None,
        template_date: str | None = None,
        truncation_unit: str = "token",
        keep_system: bool | None = None,
    ) -> None:
        args = trainer_arguments(args or DPOConfig())
        tokenizer = resolve_alias(tokenizer, processing_class, "tokenizer", "processing_class")
        if isinstance(ref_model, nn.Module) and ref_model is model:
            raise UsageError(
                "ref_model is the model itself, which changes during training.\n"
                "  Leave it out: without ref_model, the reference is the model as it is before the first step."
            )
        self.beta = resolve_beta(beta, args.beta)
        self.objective = make_objective(args, self.beta)
        self.loss_type = str(self.objective)
        self.reference_free: bool = args.reference_free
        check_reference(args, given=ref_model is not None)
        self.label_pad_token_id = label_pad_token_id
        self.padding_value = padding_value
        self.truncation_mode = truncation_mode
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.peft_config = peft_config
        self.disable_dropout = disable_dropout

        set_seed(args.seed)  # the weights of a new adapter are drawn here
        self._read = RowReader(
            tokenizer, max_length, max_prompt_length, truncation_mode, truncation_unit, keep_system,
            chat_template_kwargs, template_date,
        )  # fmt: skip
        if isinstance(data_collator, DPODataCollatorWithPadding) or data_collator is None:
            train_dataset = self._read(train_dataset, name="the training set", split="train")
            eval_dataset = self._read(eval_dataset, name="the evaluation set", split="test")
        elif useless := ", ".join(self._read.options):
            raise UsageError(f"{useless}: without effect with a data_collator of your own.\n  Leave it out.")
        super().__init__(
            model=None if model is None else self._prepare_policy(model),
            args=args,
            data_collator=data_collator or DPODataCollatorWithPadding(label_pad_token_id, padding_value),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            # transformers inspects the number of arguments of model_init; TRL's takes none.
            model_init=None if model_init is None else lambda: model_init(),
            callbacks=callbacks,
            optimizers=optimizers,
        )
        network = without_adapter(self.model)
        self._num_parameters: int = sum(parameter.numel() for parameter in network.parameters())
        self._router_weight = router_weight(network.config)
        for rows in pair_rows_in(self.train_dataset, self.eval_dataset):
            check_data(rows, network, self.objective)
        self.pair_metrics = PairMetrics(self.accelerator)
        self._whole_step = WholeStep(self.objective, self.dpo_loss, self.accelerator)
        #: What the last evaluation measured of every pair, (pairs, len(COLUMNS)).
        self.evaluated: np.ndarray | None = None
        self._was_trained = self._warned_not_learning = False
        overridden = [name for name in PADDED_METHODS if getattr(type(self), name) is not getattr(DPOTrainer, name)]
        reason = padding_reason(
            args,
            self.model,
            [*datasets_in(self.train_dataset, self.eval_dataset)],
            overridden=overridden,
            custom_collator=data_collator is not None,
            preprocesses_logits=preprocess_logits_for_metrics is not None,
            n_gpu=self.args.n_gpu,
        )
        packed = PackedScorer(self.accelerator, lean=args.reduce_activation_memory)
        padded = PaddedScorer(
            self.accelerator,
            label_pad_token_id,
            takes_logits_to_keep(network),
            self.concatenated_inputs,
            custom_forward=self.concatenated_forward if "concatenated_forward" in overridden else None,
            preprocess_logits=preprocess_logits_for_metrics,
            ld_alpha=args.ld_alpha,
            use_weighting=args.use_weighting,
        )
        self._comparison = Comparison(
            args,
            self.model,
            self._make_reference(ref_model, packed if reason is None else padded, reason),
            packed,
            padded,
            packing=None if reason is None else Packing(reason),
            is_own_reference=ref_model is None,
        )

    def _prepare_policy(self, model: Any) -> Any:
        model = with_adapter(load_model(model), self.peft_config)
        return without_dropout(model) if self.disable_dropout else model

    def call_model_init(self, trial: Any = None) -> Any:
        """Return a new policy from `model_init`."""
        return self._prepare_policy(super().call_model_init(trial))

    def _make_reference(self, ref_model: Any, scorer: PackedScorer | PaddedScorer, reason: str | None) -> Reference:
        if self.reference_free or not self.objective.needs_reference:
            return NoReference()
        # Engines that wrap the model later leave nothing here to compute with before training.
        wraps_later = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return make_reference(
            ref_model,
            self.model,
            scorer,
            precompute=self.args.precompute_reference,
            live_reason=reason or ("FSDP and DeepSpeed wrap the model too late" if wraps_later else None),
            cache=self.args.reference_cache,
            prepare=self._prepare_reference,
        )

    def _prepare_reference(self, model: Any) -> Any:
        reference: Any = frozen(model)
        if hasattr(reference, "config"):
            reference.config.use_cache = self.args.use_cache
        if self.disable_dropout:
            reference = without_dropout(reference)
        self.move_to_device(reference)
        return reference

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer, under its name before transformers 5."""
        return self.processing_class

    @property
    def reference(self) -> Reference:
        """The reference that the policy is compared with."""
        return self._comparison.reference

    @property
    def padding_reason(self) -> str | None:
        """Why sequences are padded; None if they are packed, or if `resolve_packing` was not called yet."""
        return self._comparison.padding_reason

    def resolve_packing(self) -> Packing:
        """Decide between packing and padding; the first call computes two pairs both ways to compare the results."""
        if self._comparison.packing is None and self.place_model_on_device:
            self.move_to_device(self.model)
        data = pair_rows_in(self.train_dataset, self.eval_dataset)
        return self._comparison.resolve_packing(data, self.data_collator)

    def compute_reference(self, *, skip_first_step: bool = False) -> None:
        """Compute the reference log-probabilities that training needs and the store lacks; `train` calls this.

        Args:
            skip_first_step: skip rows whose values the policy provides in its first step, if it is its own reference.
        """
        self.resolve_packing()
        if isinstance(rows := self.train_dataset, PairRows):
            self._comparison.compute_for_training(rows, self._make_sampler(), skip_first_step=skip_first_step)
        if self._comparison.initial_policy is not None:  # which cannot compute them once it is trained
            for rows in pair_rows_in(self.eval_dataset):
                self._comparison.compute_missing(rows)

    # ---- one batch -----------------------------------------------------------------------------------------------

    def concatenated_inputs(self, batch: TensorDict) -> TensorDict:
        """Concatenate chosen and rejected sequences to one batch, chosen first, padded on the right to one length.

        Args:
            batch: `chosen_*` and `rejected_*`, each (B, T); T may differ between the sides.

        Returns: `concatenated_*`, (2B, longest T).
        """
        return concatenate_sides(batch, padding_value=self.padding_value, label_pad_token_id=self.label_pad_token_id)

    def concatenated_forward(self, model: nn.Module, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run one forward pass over chosen and rejected sequences together.

        Returns: chosen and rejected log-probabilities, (B,) float32, summed over each response's tokens, in nats;
            chosen and rejected logits, (B, K, V), of the last K positions. Those before predict no response token.
        """
        return self._comparison.padded.forward(model, batch)[:4]

    def dpo_loss(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
        reference_free: bool = False,
        **terms: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses and rewards of a batch of pairs.

        Args:
            policy_chosen_logps: (B,), log-probabilities of the chosen responses under the policy.
            policy_rejected_logps: (B,), of the rejected ones.
            reference_chosen_logps: (B,), of the chosen ones under the reference.
            reference_rejected_logps: (B,), of the rejected ones.
            reference_free: compute the loss as if all responses were equally likely under the reference; rewards still
                use the reference.
            terms: further inputs of the loss, (B,) each, by their names in `dpo_train.losses`.

        Returns: losses, chosen rewards, rejected rewards, each (B,); the rewards without a graph. A reward is beta
            times the log-ratio; for losses without a reference, beta times the log-probability per token.
        """
        logps = policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps
        return self.objective.losses_and_rewards(*logps, beta=self.beta, terms=terms, reference_free=reference_free)

    def get_batch_metrics(
        self, model: nn.Module, batch: Any, train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss of a batch, and its metrics by name, with the prefix "eval_" in evaluation."""
        losses, table, _ = self._measure(model, self.as_batch(batch))
        return losses.mean(), by_name(table.mean(0).tolist(), prefix="eval_" if train_eval == "eval" else "")

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return texts that policy and reference generate for a batch's prompts: `get_batch_samples(model, batch)`.

        transformers.Trainer has another method of this name, which collects the micro-batches of a step; that one is
        called if the first argument is not a model.
        """
        if isinstance(args[0] if args else kwargs.get("model"), nn.Module):
            return self._generate_pair_of_texts(*args, **kwargs)
        self._check_finite()
        samples, pairs = super().get_batch_samples(*args, **kwargs)
        if self.objective.is_over_step:
            self._whole_step.begin_with(self.model_wrapped, self.micro_batches_on_device(samples), self._measure)
        return samples, pairs

    def _generate_pair_of_texts(self, model: Any, batch: TensorDict) -> tuple[list[str], list[str]]:
        policy = self.accelerator.unwrap_model(model)
        return self.generate_texts(policy, batch), self.generate_texts(self.reference, batch)

    def generate_texts(self, writer: Any, batch: TensorDict) -> list[str]:
        """Return the texts that a model or reference generates for the prompts of a padded batch."""
        return generate_texts(
            writer,
            self.batch_on_device(batch),
            self.tokenizer,
            label_pad_token_id=self.label_pad_token_id,
            max_length=self.max_length,
            max_positions=getattr(self.model.config, "max_position_embeddings", None),
        )

    def _measure(self, model: nn.Module, batch: Any, in_step: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return losses (B,) with their graph, of the step if `in_step`; the table of pairs; and the router loss."""
        terms: dict[str, Any] = batch.terms(self.objective.terms)
        is_initial = self._comparison.is_own_reference and self.state.global_step == 0 and not self._was_trained
        scores, reference_logps = self._comparison.compare(model, batch, is_initial=is_initial)
        losses, chosen_rewards, rejected_rewards = self.dpo_loss(*scores[:2], *reference_logps, **terms)
        losses = losses if scores.weights is None else losses * scores.weights
        table = pair_table(losses, chosen_rewards, rejected_rewards, scores, reference_logps)
        if in_step and self.objective.is_over_step:
            losses = self._whole_step.next_losses(table, scores[:2], batch)
            table[:, 0] = losses.detach()
        return losses, table, scores.router_loss

    # ---- training and evaluation ---------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; `resume_from_checkpoint=True` continues from the latest complete checkpoint.

        Raises:
            UsageError: there is no such checkpoint, or it is incomplete.
            NotFiniteError: the loss became NaN or infinite.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(newest_checkpoint(Path(self.args.output_dir)))
        if resume_from_checkpoint:
            require_complete(Path(resume_from_checkpoint))
        self._was_trained |= self.state.global_step > 0
        self.compute_reference(skip_first_step=not (self._was_trained or resume_from_checkpoint))
        reshard(self.model)
        output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)
        self._comparison.refuse_initial_policy()
        self._check_finite()
        if isinstance(self.reference, Precomputed):
            self.reference.store.save()
        return output

    def begin_run(self, state: dict[str, Any]) -> None:
        """Start the metrics of a run, or continue those of a checkpoint."""
        if self.args.fsdp and not is_sharded(self.model):
            raise UsageError(
                "fsdp was requested and is not active: every process would hold the whole model.\n"
                "  On CPU, load the model with distributed_config=DistributedConfig(fsdp_size=...) and leave out fsdp."
            )
        self.pair_metrics.clear()
        self.pair_metrics.load_state(state.get("sums"))
        self._whole_step.load_state(state)

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the metrics since the last log record, unless the loss is NaN or infinite."""
        self._check_finite()
        return {"sums": self.pair_metrics.state(), **self._whole_step.state()}

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run forward and backward of a batch, or of each packed micro-batch of a step in turn."""
        if not isinstance(inputs, StepBatch):
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        # Around backward too, which recomputes the attention of checkpointed layers.
        with shared_prefixes(self.model):
            return self.train_on_micro_batches(model, inputs.micro_batches, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this micro-batch's share of the loss of its optimizer step, and add its metrics to the sums.

        Args:
            model: the policy as it is wrapped for training.
            inputs: a batch.
            return_outputs: also return the (B, len(COLUMNS)) table of the pairs.
            num_items_in_batch: pairs of the whole optimizer step, over all ranks; None for those of this batch.
        """
        batch = self.as_batch(inputs)
        losses, table, router_loss = self._measure(model, batch, in_step=True)
        weights = torch.ones_like(losses) if batch.weight is None else batch.weight
        if self.state.global_step == 0 and self._comparison.is_own_reference and self.pair_metrics.is_empty:
            self._comparison.warn_if_policy_differs(by_name(table.T), self.model, beta=self.beta)
        self.pair_metrics.add(table, weights, batch, self.state.global_step + 1)
        pairs = weights.sum()
        loss = (losses * weights).sum()
        if router_loss is not None and self._router_weight:
            loss = loss + self._router_weight * router_loss * pairs
        # Gradients are averaged over ranks, and the loss is a sum over ranks.
        share = pairs if num_items_in_batch is None else num_items_in_batch / self.accelerator.num_processes
        return (loss / share, {"table": table}) if return_outputs else loss / share

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Any]:
        """Return the loss, the (B, len(COLUMNS)) table and, for losses over several pairs, their inputs, of a batch."""
        batch = self.as_batch(self.batch_on_device(inputs))
        with torch.no_grad(), self.compute_loss_context_manager():
            losses, table, _ = self._measure(model, batch)
        return losses.mean(), table, self._whole_step.inputs(table, batch) if self.objective.is_over_step else None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Evaluate with metrics that are means over pairs; `predictions` is the (pairs, len(COLUMNS)) table."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        self.evaluated = table = np.asarray(output.predictions)
        if self.objective.is_over_step:
            table[:, 0] = self._whole_step.losses(torch.as_tensor(output.label_ids)).numpy()
        output.metrics.update(by_name(table.mean(0, dtype="float64").tolist(), prefix=f"{metric_key_prefix}_"))
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean metrics of all pairs since the last training record; one reduction over ranks."""
        if "loss" in logs and not self.pair_metrics.is_empty:
            self._check_finite()
            # The loss is Trainer's, the mean of the steps' losses, in which a short last step has the same weight.
            logs |= self.pair_metrics.reduce() | {"loss": logs["loss"]}
            self._warned_not_learning = self._warned_not_learning or warn_if_not_learning(
                logs, self.state.global_step, beta=self.beta, policy=self.model, reference=self.reference
            )
        super().log(logs, start_time)

    def _check_finite(self) -> None:
        """Raise NotFiniteError for a pair whose loss is NaN or infinite."""
        row = self.pair_metrics.first_non_finite_row()
        if row is not None:
            rows = self.train_dataset
            origin = rows.origin(row) if isinstance(rows, PairRows) else "a pair of the training set"
            raise not_finite(origin, self.state.global_step)

    def floating_point_ops(self, inputs: Any) -> int:
        """Return the operations of a batch: 6 per parameter and token for the policy, 2 for a live reference."""
        per_parameter = 8 if isinstance(self.reference, LiveReference) else 6
        return per_parameter * self.tokens_and_pairs(inputs)[0] * self._num_parameters

    # ---- data loaders --------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """Return micro-batches whose steps have the same pairs for any number of ranks and micro-batches."""
        rows = self.train_dataset
        if rows is None or not hasattr(rows, "__len__"):
            return super().get_train_dataloader()
        collate = collate_step if self.resolve_packing().reason is None else self.data_collator
        return make_loader(rows, self._make_sampler(), collate, self.args, self.accelerator)

    def _make_sampler(self) -> StepSampler:
        return make_sampler(
            self.train_dataset,
            self.args,
            self.resolve_packing(),
            micro_batch=self.micro_batch_size,
            ranks=self.accelerator.num_processes,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the batches of an evaluation set in its order; computes log-probabilities that a reference lacks."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, str) and isinstance(self.eval_dataset, Mapping):
            rows = self.eval_dataset[rows]
        if isinstance(rows, datasets.Dataset) and isinstance(self.data_collator, DPODataCollatorWithPadding):
            rows = self._read(rows, name="the evaluation set", split="test")
        if self.resolve_packing().reason is not None or not isinstance(rows, PairRows):
            return super().get_eval_dataloader(rows if eval_dataset is not None else None)
        if self.state.global_step > 0:
            self._comparison.refuse_initial_policy()
        self._comparison.compute_missing(rows)
        sampler = torch.utils.data.BatchSampler(range(len(rows)), self.args.eval_batch_size, drop_last=False)
        return make_loader(rows, sampler, collate_packed, self.args, self.accelerator)
