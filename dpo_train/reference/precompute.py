"""Reference log-probabilities computed once: asked of a live reference before they are wanted, and kept in a store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, send_to_device
from torch import Tensor, nn
from tqdm import tqdm

from dpo_data.errors import UsageError
from dpo_train.batches.batch import Batch
from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.packed import SharedPrefixCollator
from dpo_train.data.rows import PairRows
from dpo_train.reference.live import Forward, ModelOnDemand, Reference
from dpo_train.reference.store import ReferenceStore, files_identity, weights_identity

#: Rows that are planned together, and seconds after which what was found is saved.
_PLANNED = 256
_SAVED_EVERY_S = 30


@dataclass
class Precomputed:
    """Log-probabilities out of a store; what is not in there yet, a live reference computes.

    Args:
        live: the reference with a model.
        store: the values so far.
    """

    live: Reference
    store: ReferenceStore

    @property
    def description(self) -> str:
        """Where the values come from."""
        return f"{self.live.description}, each response once"

    def logps(self, forward: Forward, batch: Batch) -> Tensor:
        """Of a packed batch, (R,), the sums of its responses.

        Args:
            forward: a model and a packed batch to such sums.
            batch: as `batching.SharedPrefixCollator` makes it.
        """
        keys = batch["keys"].cpu().numpy()
        values, known = self.store.find(keys)
        if not known.all():
            sums = self.live.logps(forward, batch)
            self.store.add(keys, sums.cpu().numpy(), batch["tokens"].cpu().numpy())
            values, _ = self.store.find(keys)
        return torch.from_numpy(values).to(batch["keys"].device)

    def learn(self, batch: Batch, sums: Tensor, rounding: float) -> None:
        """Take in what the policy gives before its first step, where it is the reference; known values stay.

        Args:
            batch: packed.
            sums: of its responses, (R,).
            rounding: relative difference up to which a stored value is what the reference gives.

        Raises:
            UsageError: a stored value is not.
        """
        keys = batch["keys"].cpu().numpy()
        values, known = self.store.find(keys)
        if self.store.unchecked and known.any():
            self._compare(torch.from_numpy(values[known]), sums.float().cpu()[torch.from_numpy(known)], rounding)
            self.store.unchecked = False
        self.store.add(keys, sums.float().cpu().numpy(), batch["tokens"].cpu().numpy())

    def generate(self, **inputs: Any) -> Tensor:
        """The live reference's own."""
        return self.live.generate(**inputs)

    def open_store(self, root: Path, policy: nn.Module, dtype: torch.dtype) -> None:
        """Take in what was stored of this very reference, and store there from now on; once.

        Args:
            root: the folder that holds a folder for each reference.
            policy: whose weights tell the reference, where it has no model of its own.
            dtype: that log-probabilities are computed in.
        """
        if self.store.folder is not None:
            return
        live, settings = self.live, {"dtype": str(dtype), "attention": "shared prefix"}
        if isinstance(live, ModelOnDemand) and Path(live.path).is_dir():
            identity = files_identity(Path(live.path), **settings)
        else:
            network: Any = getattr(live, "model", policy)
            identity = weights_identity(network, **settings)
        self.store = ReferenceStore(root / identity, {"reference": live.description, **settings})

    def fill(
        self,
        rows: PairRows,
        wanted: np.ndarray,
        *,
        spared: Callable[[], np.ndarray] | None = None,
        forward: Forward,
        most_tokens: int,
        rounding: float,
        accelerator: Accelerator,
        show_progress: bool,
    ) -> None:
        """Have the values of some rows ready; each response is computed by one of the processes, and all know it then.

        Args:
            rows: pairs.
            wanted: numbers of the rows, (n,).
            spared: asked, where something is missing, for rows that nobody needs to compute.
            forward: a model and a packed batch to the sums of its responses, (R,).
            most_tokens: of one forward pass.
            rounding: relative difference up to which a stored value is what the reference gives.
            accelerator: whose processes share the work.
            show_progress: draw a bar on standard error.

        Raises:
            UsageError: a stored value is not what the reference gives.
        """
        known = np.asarray(self.store.find(rows.response_keys(wanted).reshape(-1, 2))[1].reshape(-1, 2).all(1))
        # All processes must do the same, and one may have seen a file of another run that the others have not.
        known = _of_first_process(known, accelerator)
        missing = wanted[~known]
        if spared is None or len(missing):  # or else the first step says by itself what the reference gives
            if self.store.unchecked and known.any() and not isinstance(self.live, ModelOnDemand):
                self._spot_check(rows, wanted[known], forward, rounding, accelerator)
            self.store.unchecked = False
        if spared is not None and len(missing):
            missing = np.setdiff1d(missing, spared())
        missing = missing[np.argsort(rows.prompts[missing], kind="stable")]
        budget, collate = TokenBudget(rows, most_tokens), SharedPrefixCollator()
        saved, found = time.monotonic(), []
        with tqdm(
            total=len(missing),
            desc="reference",
            unit="pair",
            leave=False,
            disable=not show_progress or not len(missing),
        ) as progress:
            for start in range(0, len(missing), _PLANNED):
                part = missing[start : start + _PLANNED]
                own = budget.cut(part, accelerator.num_processes)[accelerator.process_index]
                for micro_batch in own:
                    batch = collate([rows[row] for row in micro_batch])
                    with accelerator.autocast():
                        sums = self.logps(forward, send_to_device(batch, accelerator.device))
                    found.append((batch["keys"].numpy(), sums.cpu().numpy(), batch["tokens"].numpy()))
                progress.update(len(part))
                if time.monotonic() - saved > _SAVED_EVERY_S:
                    self.store.save()
                    saved = time.monotonic()
        self.store.save()
        if accelerator.num_processes > 1:
            for values in gather_object(found):
                self.store.add(*values, saved=True)
        if isinstance(self.live, ModelOnDemand):
            self.live.release()

    def _spot_check(
        self, rows: PairRows, known: np.ndarray, forward: Forward, rounding: float, accelerator: Accelerator
    ) -> None:
        shortest = known[np.argsort(rows.pair_lengths[known], kind="stable")[:2]]
        batch = send_to_device(SharedPrefixCollator()([rows[int(row)] for row in shortest]), accelerator.device)
        with accelerator.autocast():
            given = self.live.logps(forward, batch).cpu()
        stored = torch.from_numpy(self.store.find(batch["keys"].cpu().numpy())[0])
        self._compare(stored, given, rounding)

    def _compare(self, stored: Tensor, given: Tensor, rounding: float) -> None:
        wrong = (given - stored).abs() > rounding * (1 + given.abs())
        if wrong.any():
            raise UsageError(
                f"{self.store.folder}: holds other log-probabilities than the reference gives "
                f"({stored[wrong][0]:.4f}, not {given[wrong][0]:.4f}).\n  Delete the folder: they are computed again."
            )


def _of_first_process(value: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    if accelerator.num_processes == 1:
        return value
    shared: np.ndarray = broadcast_object_list([value])[0]
    return shared
