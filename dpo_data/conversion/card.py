"""The dataset card of a prepared folder: README.md as the Hugging Face hub reads it."""

from collections.abc import Mapping

from dpo_data.prepared.manifest import Manifest


def dataset_card(manifest: Manifest) -> str:
    """The card; says nothing that may differ between two runs on the same input."""
    source = manifest.source
    configs = "\n".join(
        f"  - split: {name}\n    path: {name}/*.arrow" for name, split in manifest.splits.items() if split.pairs
    )
    splits = "\n".join(
        f"| {name} | {split.pairs:,} | {split.quarantined:,} | {split.left_out:,} |"
        for name, split in manifest.splits.items()
    )
    reasons = _counts(manifest.quarantined_by_code)
    warnings = _counts({code: warned.rows for code, warned in manifest.warnings.items()})
    evaluation = "This is an evaluation set: training on it spoils what it measures.\n\n" if source.eval_only else ""
    where = f" ({source.homepage})" if source.homepage else ""
    return f"""---
license: {source.license}
tags: [dpo, preference]
configs:
- config_name: default
  data_files:
{configs}
---
# {source.name}: preference pairs

Made by dpo-data from {source.name}{where}. Preferred is: {source.direction}.

{evaluation}{row_balance(manifest)}.
Form: {manifest.form}. License of the source: {source.license}.

| split | pairs | quarantined | left out |
| --- | --- | --- | --- |
{splits}
{_pairing(manifest)}
Quarantined rows stand in `quarantine/` with their reasons:

{reasons}

Kept pairs that a check warns about:

{warnings}

```python
import datasets
pairs = datasets.load_from_disk("FOLDER")  # prompt, chosen, rejected, origin, id, ...
```
"""


def row_balance(manifest: Manifest) -> str:
    """Rows read = what became of them, in words."""
    pairs, rows = manifest.pairs, manifest.rows_paired
    kept = f"{pairs:,} pairs" if pairs == rows else f"{rows:,} that gave {pairs:,} pairs"
    left_out = f" + {manifest.left_out:,} left out" if manifest.left_out else ""
    return f"{manifest.rows_read:,} raw rows = {kept} + {manifest.quarantined:,} in quarantine{left_out}"


def _pairing(manifest: Manifest) -> str:
    options = manifest.options.pairing
    if options is None:
        return ""
    cap = "" if options.max_pairs_per_prompt is None else f", at most {options.max_pairs_per_prompt} a prompt"
    return f"""
Pairs were made of scored or ranked responses: {options.pairing}, margin at least {options.min_margin:g}, ties
{"dropped" if options.tie == "drop" else "kept"}, seed {options.seed}{cap}. Rows left out:

{_counts(manifest.left_out_by_reason)}

Possible pairs and responses that are in no pair:

{_counts(manifest.pairs_left_out)}
"""


def _counts(counts: Mapping[str, int]) -> str:
    return "\n".join(f"- {name}: {count:,}" for name, count in counts.items()) or "- none"
