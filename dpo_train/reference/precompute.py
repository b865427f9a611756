"""Reference log-probabilities computed once per response and kept in a store."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from tqdm import tqdm

from dpo_data.errors import UsageError
from dpo_train.batches.batch import PackedBatch
from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.packed import collate_packed
from dpo_train.data.rows import PairRows
from dpo_train.logprobs.scoring import PackedScorer, compute_dtype, rounding_error
from dpo_train.reference.live import ModelOnDemand, ReferenceModel, generate
from dpo_train.reference.store import ReferenceStore, weights_identity

#: Rows that are split into micro-batches together, and seconds between two saves of the store.
PLAN_ROWS = 256
SAVE_INTERVAL_S = 30


@dataclass
class Precomputed:
    """Reads log-probabilities from a store, and computes those that it lacks.

    Args:
        model: the reference model.
        scorer: computes log-probabilities.
        policy: identifies the reference if that has no separate weights.
        cache: folder with a folder of stored values for each reference; None to keep values in memory.
        store: the values so far.
    """

    model: ReferenceModel
    scorer: PackedScorer
    policy: nn.Module
    cache: Path | None = None
    store: ReferenceStore = field(default_factory=ReferenceStore)

    @property
    def description(self) -> str:
        """What the reference is, for the user."""
        return f"{self.model.description}, each response once"

    def logps(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected responses, (B,) each."""
        logps = self._response_logps(batch)
        return logps[batch.chosen], logps[batch.rejected]

    def _response_logps(self, batch: PackedBatch) -> Tensor:
        """Return the log-probabilities of the R distinct responses of a batch, (R,)."""
        keys = batch.keys.cpu().numpy()
        values, known = self.store.find(keys)
        if not known.all():
            self.store.add(keys, self.compute(batch).cpu().numpy(), batch.lengths.cpu().numpy())
            values, _ = self.store.find(keys)
        return torch.from_numpy(values).to(batch.keys.device)

    def compute(self, batch: PackedBatch) -> Tensor:
        """Compute the log-probabilities of the R distinct responses of a batch with the reference model, (R,)."""
        with self.model.active() as network:
            return self.scorer.response_scores(network, batch)[0]

    def add_from_policy(self, batch: PackedBatch, logps: Tensor) -> None:
        """Store log-probabilities of the policy before its first step, when it is its own reference.

        Args:
            batch: a batch of R distinct responses.
            logps: of its responses, (R,).

        Raises:
            UsageError: a stored value differs from these.
        """
        keys, logps = batch.keys.cpu().numpy(), logps.float().cpu()
        values, known = self.store.find(keys)
        if self.store.unchecked and known.any():
            self._compare(torch.from_numpy(values[known]), logps[torch.from_numpy(known)])
            self.store.unchecked = False
        self.store.add(keys, logps.numpy(), batch.lengths.cpu().numpy())

    def generate(self, **inputs: Any) -> Tensor:
        """Generate with the reference model."""
        return generate(self.model, **inputs)

    def _open_store(self) -> None:
        """Read the stored values of this reference, and store new ones there; later calls have no effect."""
        if self.cache is None or self.store.folder is not None:
            return
        with self.model.active() as network:
            dtype = compute_dtype(self.scorer.accelerator, network)
            settings = {"dtype": str(dtype), "attention": "shared prefix"}
            identity = weights_identity(network, **settings)
        self.store = ReferenceStore(self.cache / identity, {"reference": self.model.description, **settings})

    def compute_missing(
        self,
        rows: PairRows,
        wanted: np.ndarray,
        *,
        max_tokens: int,
        max_pairs: int | None = None,
        skip: Callable[[], np.ndarray] | None = None,
        show_progress: bool = False,
    ) -> None:
        """Compute and store the values of some rows; each response is computed by one process and shared with all.

        Args:
            rows: the dataset.
            wanted: row numbers, (n,).
            max_tokens: maximum tokens per forward pass.
            max_pairs: maximum pairs per forward pass; None for no limit.
            skip: returns rows that need not be computed, because the first step provides them; called only if some of
                the wanted rows are missing.
            show_progress: draw a progress bar on stderr.

        Raises:
            UsageError: a stored value differs from what the reference computes.
        """
        self._open_store()
        accelerator = self.scorer.accelerator
        known = np.asarray(self.store.find(rows.response_keys(wanted).reshape(-1, 2))[1].reshape(-1, 2).all(1))
        # All processes must do the same, and this one may have read a file that others have not seen.
        known = _broadcast(known, accelerator)
        missing = wanted[~known]
        if skip is None or len(missing):  # else the first step compares a stored value with the policy's
            if self.store.unchecked and known.any():
                self._spot_check(rows, wanted[known])
            self.store.unchecked = False
        if skip is not None and len(missing):
            missing = np.setdiff1d(missing, skip())
        missing = missing[np.argsort(rows.prompts[missing], kind="stable")]
        budget = TokenBudget(rows, max_tokens, max_pairs)
        last_save, computed = time.monotonic(), []
        hidden = not show_progress or not len(missing)
        with tqdm(total=len(missing), desc="reference", unit="pair", leave=False, disable=hidden) as progress:
            for start in range(0, len(missing), PLAN_ROWS):
                part = missing[start : start + PLAN_ROWS]
                micro_batches = budget.split_into_micro_batches(part, accelerator.num_processes)
                for micro_batch in micro_batches[accelerator.process_index]:
                    batch = collate_packed(rows.pairs(micro_batch))
                    logps = self._response_logps(batch.to(accelerator.device))
                    computed.append((batch.keys.numpy(), logps.cpu().numpy(), batch.lengths.numpy()))
                progress.update(len(part))
                if time.monotonic() - last_save > SAVE_INTERVAL_S:
                    self.store.save()
                    last_save = time.monotonic()
        self.store.save()
        if accelerator.num_processes > 1:
            for values in gather_object(computed):
                self.store.add(*values, saved=True)
        if isinstance(self.model, ModelOnDemand):
            self.model.release()

    def _spot_check(self, rows: PairRows, known: np.ndarray) -> None:
        """Compare the stored values of two short pairs with those that the reference computes."""
        shortest = known[np.argsort(rows.pair_lengths[known], kind="stable")[:2]]
        batch = collate_packed(rows.pairs(shortest)).to(self.scorer.accelerator.device)
        stored = torch.from_numpy(self.store.find(batch.keys.cpu().numpy())[0])
        self._compare(stored, self.compute(batch).cpu())

    @property
    def _dtype(self) -> torch.dtype:
        return compute_dtype(self.scorer.accelerator, self.policy)

    def _compare(self, stored: Tensor, computed: Tensor) -> None:
        wrong = (computed - stored).abs() > rounding_error(self._dtype) * (1 + computed.abs())
        if wrong.any():
            raise UsageError(
                f"{self.store.folder}: the stored log-probabilities differ from those of the reference "
                f"({stored[wrong][0]:.4f}, not {computed[wrong][0]:.4f}).\n"
                "  Delete the folder; its values are computed again."
            )


def _broadcast(value: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """Return the value of the first process."""
    if accelerator.num_processes == 1:
        return value
    shared: np.ndarray = broadcast_object_list([value])[0]
    return shared
