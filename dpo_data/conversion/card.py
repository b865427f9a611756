"""Dataset card of a prepared folder: README.md as the Hugging Face Hub reads it."""

import json
from collections.abc import Mapping

from dpo_data.prepared.manifest import Manifest


def dataset_card(manifest: Manifest) -> str:
    """Return the card, which is the same for every run on the same input."""
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
    evaluation = (
        "This is an evaluation set: a model that is trained on it can no longer be evaluated with it.\n\n"
        if source.eval_only
        else ""
    )
    license_ = source.license if manifest.license is None else json.dumps(manifest.license, ensure_ascii=False)
    license_text = f"License of the source: {source.license}."
    if manifest.license is not None:
        license_text = f"License: {manifest.license}. {license_text}"
    about = f"\n{manifest.description}\n" if manifest.description else ""
    where = f" ({source.homepage})" if source.homepage else ""
    return f"""---
license: {license_}
tags: [dpo, preference]
configs:
- config_name: default
  data_files:
{configs}
---
# {manifest.name or source.name}: preference pairs
{about}
Made by dpo-data from {source.name}{where}. Preference rule: {source.direction}.

{evaluation}{row_balance(manifest)}.
Form: {manifest.form}. {license_text}

| split | pairs | quarantined | left out |
| --- | --- | --- | --- |
{splits}
{_filter(manifest)}{_pairing(manifest)}
Quarantined rows are in `quarantine/`, by reason:

{reasons}

Warnings about kept pairs:

{warnings}

```python
import datasets
pairs = datasets.load_from_disk("FOLDER")  # prompt, chosen, rejected, origin, id, ...
```
"""


def row_balance(manifest: Manifest) -> str:
    """Return the balance of a conversion in words: rows read = rows paired + quarantined + left out."""
    pairs, rows = manifest.pairs, manifest.rows_paired
    kept = f"{pairs:,} pairs" if pairs == rows else f"{rows:,} that gave {pairs:,} pairs"
    left_out = f" + {manifest.left_out:,} left out" if manifest.left_out else ""
    return f"{manifest.rows_read:,} raw rows = {kept} + {manifest.quarantined:,} in quarantine{left_out}"


def _filter(manifest: Manifest) -> str:
    where = manifest.options.where
    if where is None:
        return ""
    filtered = {reason: manifest.left_out_by_reason.get(reason, 0) for reason in ("filtered", "filtered_null")}
    return f"""
Only rows that meet this condition are in pairs: `` {where} ``. Rows left out because they do not, or because a null
decides:

{_counts(filtered)}
"""


def _pairing(manifest: Manifest) -> str:
    options = manifest.options.pairing
    if options is None:
        return ""
    cap = "" if options.max_pairs_per_prompt is None else f", at most {options.max_pairs_per_prompt} per prompt"
    return f"""
Pairs were made from scored or ranked responses: {options.pairing}, margin at least {options.min_margin:g}, ties
{"dropped" if options.tie == "drop" else "kept"}, seed {options.seed}{cap}. Rows left out:

{_counts(manifest.left_out_by_reason)}

Possible pairs and responses that were left out:

{_counts(manifest.pairs_left_out)}
"""


def _counts(counts: Mapping[str, int]) -> str:
    return "\n".join(f"- {name}: {count:,}" for name, count in counts.items()) or "- none"
