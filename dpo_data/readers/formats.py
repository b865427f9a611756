"""Registry of raw file formats."""

from dpo_data.readers.arrow import ARROW, PARQUET
from dpo_data.readers.json import JSON
from dpo_data.readers.jsonl import JSONL
from dpo_data.readers.rows import Format
from dpo_data.readers.tables import CSV, TSV

FORMATS: dict[str, Format] = {
    "jsonl": JSONL,
    "json": JSON,
    "csv": CSV,
    "tsv": TSV,
    "parquet": PARQUET,
    "arrow": ARROW,
}
#: Ending of a file name -> its format.
FORMAT_OF_SUFFIX = {suffix: format_ for format_ in FORMATS.values() for suffix in format_.suffixes}
