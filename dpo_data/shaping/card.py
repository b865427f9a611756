"""Dataset card of a folder that a step wrote."""

import json

from dpo_data.prepared.manifest import Manifest, StepEntry


def step_card(manifest: Manifest) -> str:
    """Return the card, which is the same for every run on the same folders."""
    made_by = manifest.made_by
    if not isinstance(made_by, StepEntry):
        raise TypeError("the card of a conversion is another one")
    license_ = manifest.license or manifest.source.license
    configs = "\n".join(
        f"  - split: {name}\n    path: {name}/*.arrow" for name, split in manifest.splits.items() if split.pairs
    )
    parents = "\n".join(f"| {each.name} | {each.pairs:,} | `{each.content_hash[:12]}` |" for each in made_by.parents)
    splits = "\n".join(f"| {name} | {split.pairs:,} | {split.left_out:,} |" for name, split in manifest.splits.items())
    reasons = "\n".join(f"- {reason}: {count:,}" for reason, count in made_by.left_out.items()) or "- none"
    notes = "".join(f"\n{note}\n" for note in made_by.notes)
    about = f"\n{manifest.description}\n" if manifest.description else ""
    evaluation = (
        "\nThis is an evaluation set: a model that is trained on it can no longer be evaluated with it.\n"
        if manifest.source.eval_only
        else ""
    )
    return f"""---
license: [{license_}]
tags: [dpo, preference]
configs:
- config_name: default
  data_files:
{configs}
---
# {manifest.name or manifest.source.name}: preference pairs
{about}
Made by `dpo-data {made_by.verb}` with these options:

```json
{json.dumps(made_by.options, indent=2, ensure_ascii=False)}
```

{step_balance(manifest)}.
Form: {manifest.form}. License of the sources: {license_}. Preference rule: {manifest.source.direction}.
{evaluation}{notes}
| from | pairs | content |
| --- | --- | --- |
{parents}

| split | pairs | left out |
| --- | --- | --- |
{splits}

Pairs left out, by reason; `left_out.jsonl` lists them:

{reasons}

```python
import datasets
pairs = datasets.load_from_disk("FOLDER")  # prompt, chosen, rejected, origin, id, ...
```
"""


def step_balance(manifest: Manifest) -> str:
    """Return the balance of a step in words: pairs in + repeated = pairs out + left out."""
    made_by = manifest.made_by
    if not isinstance(made_by, StepEntry):
        raise TypeError("a conversion has another balance")
    read = sum(parent.pairs for parent in made_by.parents)
    repeated = f" + {made_by.repeated:,} repeated" if made_by.repeated else ""
    return f"{read:,} pairs{repeated} = {manifest.pairs:,} pairs + {sum(made_by.left_out.values()):,} left out"
