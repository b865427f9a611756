"""The dataset card of a prepared folder: README.md as the Hugging Face hub reads it."""

from dpo_data.prepared import Manifest


def dataset_card(manifest: Manifest) -> str:
    """The card; says nothing that may differ between two runs on the same input."""
    source = manifest.source
    configs = "\n".join(
        f"  - split: {name}\n    path: {name}/*.arrow" for name, split in manifest.splits.items() if split.pairs
    )
    splits = "\n".join(
        f"| {name} | {split.pairs:,} | {split.quarantined:,} |" for name, split in manifest.splits.items()
    )
    reasons = "\n".join(f"- {code}: {rows:,}" for code, rows in manifest.quarantined_by_code.items()) or "- none"
    warnings = "\n".join(f"- {code}: {warned.rows:,}" for code, warned in manifest.warnings.items()) or "- none"
    where = f" ({source.homepage})" if source.homepage else ""
    return f"""---
license: {source.licence}
tags: [dpo, preference]
configs:
- config_name: default
  data_files:
{configs}
---
# {source.name}: preference pairs

Made by dpo-data from {source.name}{where}. Preferred is: {source.direction}.

{manifest.rows_read:,} raw rows = {manifest.pairs:,} pairs + {manifest.quarantined:,} in quarantine.
Form: {manifest.form}.

| split | pairs | quarantined |
| --- | --- | --- |
{splits}

Quarantined rows stand in `quarantine/` with their reasons:

{reasons}

Kept rows that a check warns about:

{warnings}

```python
import datasets
pairs = datasets.load_from_disk("FOLDER")  # prompt, chosen, rejected, origin, id, ...
```
"""
