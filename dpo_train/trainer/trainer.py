"""DPOTrainer: direct preference optimization as a transformers Trainer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, TrainOutput
from transformers.utils import logging

from dpo_data.errors import UsageError
from dpo_train.adapters import with_adapter
from dpo_train.attention.register import shared_prefixes
from dpo_train.batches.batch import StepBatch
from dpo_train.batches.padded import DPODataCollatorWithPadding, concatenate_sides
from dpo_train.config import (
    DEFAULT_BETA,
    DPOConfig,
    check_reference,
    make_objective,
    resolve_alias,
    resolve_beta,
    trainer_arguments,
)
from dpo_train.data.rows import PairRows, no_pairs
from dpo_train.data.text import RowReader, has_text
from dpo_train.diagnosis import (
    not_finite,
    require_trained,
    warn_if_not_learning,
    warn_if_rate_is_small,
    warn_if_weights_round,
)
from dpo_train.displacement import DisplacementGuard
from dpo_train.logprobs.scoring import TensorDict
from dpo_train.models import (
    frozen,
    load_model,
    require_causal,
    set_router_weight,
    share_weights,
    tokenizer_of,
    without_adapter,
    without_dropout,
)
from dpo_train.reference.live import LiveReference, ModelOnDemand
from dpo_train.reference.precompute import Precomputed
from dpo_train.reference.sync import ReferenceSync, make_reference_sync
from dpo_train.sharding import common_passes, require_sharding, reshard
from dpo_train.trainer.checkpoints import newest_checkpoint
from dpo_train.trainer.comparison import make_comparison
from dpo_train.trainer.generation import GeneratingTrainer
from dpo_train.trainer.loaders import EVALUATION, TRAIN, datasets_in, one_dataset, pair_rows_in
from dpo_train.trainer.metrics import PairMetrics, by_name, pair_table
from dpo_train.trainer.packing import PADDED_METHODS
from dpo_train.trainer.preflight import check_arguments, check_best_metric
from dpo_train.trainer.whole_step import WholeStep

logger = logging.get_logger(__name__)

#: Tags of a trained model on the Hub.
MODEL_TAGS = ["dpo", "dpo-train"]

Data: TypeAlias = Any  # datasets.Dataset | datasets.IterableDataset | str | Path, none of which mypy can see


class DPOTrainer(GeneratingTrainer):
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
        tokenizer: tokenizes text, and is saved with the model; None for the one that was saved with `model`.
        model_init: returns the policy, instead of `model`.
        callbacks: further callbacks.
        optimizers: optimizer and scheduler, instead of those of `args`.
        preprocess_logits_for_metrics: applied to the logits before `logits/*` are computed, in evaluation.
        max_length: this and max_prompt_length: see `dpo_data.tokenize`; for texts and messages.
        peft_config: makes the policy a new adapter on the model, as an object of peft or a dict; an adapter that the
            model has already is merged.
        disable_dropout: disable dropout in policy and reference, so that they agree before the first step; that of a
            new adapter, which has no effect before it, is left as `peft_config` has it.
        processing_class: another name for `tokenizer`.
        chat_template_kwargs: this, template_date, truncation_unit and keep_system: see `dpo_data.tokenize`.
        compute_metrics: returns further metrics of an evaluation, by name, from a transformers.EvalPrediction whose
            `predictions` are the (pairs, len(COLUMNS)) table of `trainer.metrics`.
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
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
    ) -> None:
        args = trainer_arguments(args or DPOConfig())
        tokenizer = resolve_alias(tokenizer, processing_class, "tokenizer", "processing_class")
        if share_weights(model, ref_model):
            raise UsageError(
                "ref_model is the model itself, or shares weights with it, which change during training.\n"
                "  Leave it out: without ref_model, the reference is the model as it is before the first step."
            )
        if (model is None) == (model_init is None):
            raise UsageError("pass either a model or a model_init, not both." if model is not None else "pass a model.")
        if isinstance(train_dataset, datasets.IterableDataset) and args.max_steps < 0:
            raise UsageError("is needed for an iterable dataset, whose length is unknown.", "max_steps", args.max_steps)
        args.beta = resolve_beta(beta, args.beta)
        make_objective(args, args.beta)
        check_reference(args, given=ref_model is not None)
        check_arguments(args)
        if compute_metrics is None and type(self) is DPOTrainer:  # else there may be further metrics
            check_best_metric(args, [*eval_dataset] if isinstance(eval_dataset, Mapping) else None)
        self.label_pad_token_id = label_pad_token_id
        self.padding_value = padding_value
        self.truncation_mode = truncation_mode
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.peft_config = peft_config
        self.disable_dropout = disable_dropout
        self._loading = {"trust_remote_code": args.trust_remote_code, **(args.model_init_kwargs or {})}
        if model is not None and not isinstance(model, str) and args.model_init_kwargs:
            raise UsageError("the model is loaded already.", "model_init_kwargs", args.model_init_kwargs)
        if tokenizer is None and (isinstance(model, str) or has_text(train_dataset, eval_dataset)):
            tokenizer = tokenizer_of(model, self._loading)

        set_seed(args.seed)  # the weights of a new adapter are drawn here
        self._read = RowReader(
            tokenizer, max_length, max_prompt_length, truncation_mode, truncation_unit, keep_system,
            chat_template_kwargs, template_date, check=self.check_rows,
        )  # fmt: skip
        if isinstance(data_collator, DPODataCollatorWithPadding) or data_collator is None:
            train_dataset = self._read(
                one_dataset(train_dataset, "train_dataset"), name=TRAIN, split="train", weights=args.pair_weights
            )
            eval_dataset = self._read(eval_dataset, name=EVALUATION, split="test")
        elif useless := ", ".join([*self._read.options, *(["pair_weights"] if args.pair_weights else [])]):
            raise UsageError(f"{useless}: without effect with a data_collator of your own.\n  Leave it out.")
        super().__init__(
            model=None if model is None else self._prepare_policy(model),
            args=args,
            data_collator=data_collator
            or DPODataCollatorWithPadding(label_pad_token_id, padding_value, args.pad_to_multiple_of),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            # transformers inspects the number of arguments of model_init; TRL's takes none.
            model_init=None if model_init is None else lambda: model_init(),
            callbacks=callbacks,
            optimizers=optimizers,
        )
        warn_if_rate_is_small(args.learning_rate, self.model)
        if optimizers[0] is not None:
            require_trained(self.model, optimizers[0])
        elif "adam" in str(args.optim).lower():
            warn_if_weights_round(args.learning_rate, self.model)
        self._ref_model = ref_model
        self._preprocess_logits = preprocess_logits_for_metrics
        self._compute_metrics = compute_metrics
        self._has_own_collator = data_collator is None
        #: What the last evaluation measured of every pair, (pairs, len(COLUMNS)).
        self.evaluated: np.ndarray | None = None
        self.begin()

    def begin(self) -> None:
        """Create what depends on the policy and on the arguments, both of which a hyperparameter search changes."""
        args, network = self.args, without_adapter(self.model)
        self.beta: float = args.beta
        self.reference_free: bool = args.reference_free
        self.is_own_reference = self._ref_model is None
        self.pair_loss = make_objective(args, self.beta)
        self.loss_type = str(self.pair_loss)
        self._num_parameters: int = sum(parameter.numel() for parameter in network.parameters())
        self._router_weight = set_router_weight(network.config, args.router_aux_loss_coef)
        self.model.add_model_tags(MODEL_TAGS)
        for rows in pair_rows_in(self.train_dataset, self.eval_dataset):
            self.check_rows(rows)
        self.pair_metrics = PairMetrics(self.accelerator)
        self._whole_step = WholeStep(self.pair_loss, self.dpo_loss, self.accelerator)
        self._was_trained = self._warned_not_learning = False
        if type(self).get_batch_metrics is not DPOTrainer.get_batch_metrics:
            raise UsageError(
                "get_batch_metrics is overridden, but neither training nor evaluation calls it.\n"
                "  Override dpo_loss for another loss, and pass compute_metrics for further metrics."
            )
        overridden = [name for name in PADDED_METHODS if getattr(type(self), name) is not getattr(DPOTrainer, name)]
        self._comparison = make_comparison(
            args,
            self.accelerator,
            self.model,
            self._ref_model,
            data=[*datasets_in(self.train_dataset, self.eval_dataset)],
            label_pad_token_id=self.label_pad_token_id,
            is_own_collator=self._has_own_collator,
            concatenated_inputs=self.concatenated_inputs,
            concatenated_forward=self.concatenated_forward if "concatenated_forward" in overridden else None,
            overridden=overridden,
            preprocess_logits=self._preprocess_logits,
            needs_reference=self.pair_loss.needs_reference and not self.reference_free,
            # Engines that wrap the model later leave nothing here to compute with before training.
            wraps_later=self.is_fsdp_enabled or self.is_deepspeed_enabled,
            prepare=self._prepare_reference,
        )
        self._watch()

    def _watch(self) -> None:
        """Add the callbacks that watch the policy, in place of those for an earlier one."""
        for kind in (DisplacementGuard, ReferenceSync):
            self.remove_callback(kind)
        self.add_callback(DisplacementGuard(self.args.on_displacement, self._add_sft))
        self._sync = make_reference_sync(self.reference, self.model, self.args) if self.args.sync_ref_model else None
        if self._sync is not None:
            self.add_callback(self._sync)

    def _add_sft(self) -> None:
        self.pair_loss = self._whole_step.objective = self.pair_loss.with_sft()
        self.loss_type = str(self.pair_loss)

    def _prepare_policy(self, model: Any) -> Any:
        model = require_causal(load_model(model, self._loading), "model")
        model = with_adapter(model, self.peft_config)
        # A new adapter has the dropout that its configuration names.
        return without_dropout(model, keep_adapter=self.peft_config is not None) if self.disable_dropout else model

    def call_model_init(self, trial: Any = None) -> Any:
        """Return a new policy from `model_init`."""
        return self._prepare_policy(super().call_model_init(trial))

    def _prepare_reference(self, model: Any) -> Any:
        reference: Any = frozen(require_causal(load_model(model, self._loading), "ref_model"))
        if hasattr(reference, "config"):
            reference.config.use_cache = self.args.use_cache
        if self.disable_dropout:
            reference = without_dropout(reference)
        self.check_reference_takes_rows(reference)
        self.move_to_device(reference)
        return reference

    @property
    def aux_loss_enabled(self) -> bool:
        """True if the router loss of a mixture of experts is added to the loss."""
        return self._router_weight > 0

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
        batch = batch if isinstance(batch, Mapping) else self.as_padded(batch)
        return concatenate_sides(batch, padding_value=self.padding_value, label_pad_token_id=self.label_pad_token_id)

    def concatenated_forward(self, model: nn.Module, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run one forward pass over chosen and rejected sequences together.

        Returns: chosen and rejected log-probabilities, (B,) float32, summed over each response's tokens, in nats;
            chosen and rejected logits, (B, K, V), of the last K positions. Those before predict no response token.
        """
        return self._comparison.padded.forward(model, self.as_padded(batch))[:4]

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
        return self.pair_loss.losses_and_rewards(*logps, beta=self.beta, terms=terms, reference_free=reference_free)

    def get_batch_metrics(
        self, model: nn.Module, batch: Any, train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss of a batch, and its metrics by name, with the prefix "eval_" in evaluation."""
        losses, table, _ = self._measure(model, self.as_batch(self.batch_on_device(batch)))
        return losses.mean(), by_name(table.mean(0).tolist(), prefix="eval_" if train_eval == "eval" else "")

    def begin_step(self, batches: Sequence[Any]) -> None:
        """Compute the losses of a step that depend on all of its pairs, before its first micro-batch."""
        self._check_finite()
        if self.pair_loss.is_over_step:
            self._whole_step.begin_with(self.model_wrapped, self.micro_batches_on_device(batches), self._measure)

    def _measure(self, model: nn.Module, batch: Any, in_step: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return losses (B,) with their graph, of the step if `in_step`; the table of pairs; and the router loss."""
        terms: dict[str, Any] = batch.terms(self.pair_loss.terms)
        is_initial = self._comparison.is_own_reference and self.state.global_step == 0 and not self._was_trained
        scores, reference_logps = self._comparison.compare(model, batch, is_initial=is_initial)
        losses, chosen_rewards, rejected_rewards = self.dpo_loss(*scores[:2], *reference_logps, **terms)
        losses = losses if scores.weights is None else losses * scores.weights
        tokens = batch.response_lengths("chosen"), batch.response_lengths("rejected")
        table = pair_table(losses, chosen_rewards, rejected_rewards, scores, reference_logps, tokens)
        if in_step and self.pair_loss.is_over_step:
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
        self._checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)
        if output.global_step == 0 and self._checkpoint is None:
            raise no_pairs(TRAIN)
        self._comparison.refuse_initial_policy()
        self._check_finite()
        if isinstance(self.reference, Precomputed):
            self.reference.store.save()
        return output

    def prepare_run(self) -> None:
        """Begin with a new policy, if there is one, and compute what a run needs before its first step."""
        if self.model_init is not None:
            self.begin()
        require_trained(self.model)
        self.identify_run()
        self._was_trained |= self.model_init is None and self.state.global_step > 0
        if self._sync is not None and self._checkpoint is not None:
            self._sync.load(self._checkpoint)
        self.compute_reference(skip_first_step=not (self._was_trained or self._checkpoint))
        reshard(self.model)

    def begin_run(self, state: dict[str, Any]) -> None:
        """Start the metrics of a run, or continue those of a checkpoint."""
        require_sharding(self.args, self.model)
        self.pair_metrics.load_state(state)
        self._whole_step.load_state(state)

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the metrics since the last log record, unless the loss is NaN or infinite."""
        self._check_finite()
        return {**self.pair_metrics.state(), **self._whole_step.state()}

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
        self.pair_metrics.add(table, weights, batch, self.state.global_step + 1, router_loss)
        pairs = weights.sum()
        loss = (losses * weights).sum()
        if router_loss is not None and self._router_weight:
            loss = loss + self._router_weight * router_loss * pairs
        # Gradients are averaged over ranks, and the loss is a sum over ranks.
        share = pairs if num_items_in_batch is None else num_items_in_batch / self.accelerator.num_processes
        return (loss / share, {"table": table}) if return_outputs else loss / share

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Any]:
        """Return the loss, the (B, len(COLUMNS)) table and, for losses over several pairs, their inputs, of a batch."""
        batches = [*self.micro_batches_on_device([inputs])]
        passes = common_passes(len(batches), self.model, self.accelerator)
        with torch.no_grad(), self.compute_loss_context_manager():
            tables = [self._measure(model, batch)[1] for batch in batches]
            for _ in range(passes - len(batches)):  # other ranks need the shards of this one
                self._measure(model, batches[-1])
        for table, batch in zip(tables, batches, strict=True):
            if batch.weight is not None:
                table[batch.weight == 0] = torch.nan  # a pair that only fills up a batch
        table = torch.cat(tables)
        inputs = [self._whole_step.inputs(*each) for each in zip(tables, batches, strict=True)]
        return table[:, 0].nanmean(), table, torch.cat(inputs) if self.pair_loss.is_over_step else None

    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Evaluate with metrics that are means over pairs; `predictions` is the (pairs, len(COLUMNS)) table."""
        output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        is_pair = ~np.isnan(output.predictions).all(1)
        self.evaluated = table = np.asarray(output.predictions)[is_pair]
        if self.pair_loss.is_over_step:
            table[:, 0] = self._whole_step.losses(torch.as_tensor(output.label_ids)[is_pair]).numpy()
        output = output._replace(predictions=table)
        metrics = by_name(table.mean(0, dtype="float64").tolist())
        if self.args.generate_during_eval and isinstance(rows := dataloader.dataset, PairRows):
            metrics |= self.generated_metrics(rows)
        if self._compute_metrics is not None:
            metrics |= self._compute_metrics(EvalPrediction(predictions=table, label_ids=None))
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean metrics of all pairs since the last training record; one reduction over ranks."""
        if "loss" in logs and not self.pair_metrics.is_empty:
            self._check_finite()
            # The loss is Trainer's, the mean of the steps' losses, in which a short last step has the same weight.
            logs |= self.pair_metrics.reduce(aux_loss=self.aux_loss_enabled) | {"loss": logs["loss"]}
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
