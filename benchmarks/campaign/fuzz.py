"""Raw files with broken bytes: every row is accounted for, or the file is refused by name."""

import csv
import gzip
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from trials import Ended, fork
from world import World, rows

#: Cases of one child; a crash ends it, and the next child goes on after the case that crashed.
BATCH = 40


def _jsonl(table: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table).encode()


def _csv(table: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def _zip(table: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", _jsonl(table))
    return buffer.getvalue()


def _arrow(table: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    rows_ = pa.Table.from_pylist(table)
    with pa.ipc.new_stream(sink, rows_.schema) as writer:
        writer.write_table(rows_)
    return sink.getvalue()


def _feather(table: list[dict[str, str]], compression: str) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pa.Table.from_pylist(table), sink, compression=compression)
    return sink.getvalue()


def _parquet(table: list[dict[str, object]], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table), sink, **options)
    return sink.getvalue()


def _messages(table: list[dict[str, str]]) -> list[dict[str, object]]:
    return [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in table
    ]


WRITERS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "jsonl": _jsonl,
    "json": lambda table: json.dumps(table).encode(),
    "csv": _csv,
    "jsonl.gz": lambda table: gzip.compress(_jsonl(table), mtime=0),
    "zip": _zip,
    "arrow": _arrow,
    "nested.arrow": lambda table: _arrow(_messages(table)),  # type: ignore[arg-type]
    "feather": lambda table: _feather(table, "uncompressed"),
    "lz4.feather": lambda table: _feather(table, "lz4"),
    "parquet": lambda table: _parquet(table),  # type: ignore[arg-type]
    "nested.parquet": lambda table: _parquet(_messages(table), compression="zstd"),
}


def broken(content: bytes, rng: random.Random) -> bytes:
    """Return a file with one to a few faults."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(6)
        if how == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif how == 1 and data:
            data[at % len(data)] = rng.choice(b'\x00\xff\x7f\x80"{}[]\\,\n\r:')
        elif how == 2:
            del data[at : at + rng.choice([1, 4, 64, 1000])]
        elif how == 3:
            data[at:at] = rng.randbytes(rng.choice([1, 4, 64]))
        elif how == 4:
            size = rng.choice([4, 8, 64])
            data[at : at + size] = bytes(len(data[at : at + size]))
        else:
            size = rng.choice([4, 64, 512])
            data[at:at] = data[:size]
    return bytes(data)


def fuzz_trials(world: World, rng: random.Random, trials: int) -> Iterator[tuple[str, str, str]]:
    """Yield the kind of file, the outcome and details."""
    scratch = world.folder / "fuzz"
    scratch.mkdir()
    whole = {kind: write(rows(12, rng)) for kind, write in WRITERS.items()}
    cases = [(kind, broken(whole[kind], rng)) for kind in (list(WRITERS)[n % len(WRITERS)] for n in range(trials))]
    done = 0
    while done < len(cases):
        (scratch / "outcomes").write_text("")
        batch = cases[done : done + BATCH]
        ended = fork(scratch, lambda batch=batch: _convert_all(batch, scratch)).wait()
        outcomes = (scratch / "outcomes").read_text().splitlines()
        for (kind, _), line in zip(batch, outcomes, strict=False):
            outcome, _, details = line.partition(" ")
            yield f"input {kind}", outcome, details
        done += len(outcomes)
        if len(outcomes) < len(batch):
            kind, data = cases[done]
            kept = Path(f"campaign-crash-{done}.{kind}")
            kept.write_bytes(data)
            yield f"input {kind}", _fault(ended), f"case {done}, kept as {kept}: exit {ended.code}: {ended.err[-2000:]}"
            done += 1


def _fault(ended: Ended) -> str:
    return ended.fault or "crash"


def _convert_all(batch: list[tuple[str, bytes]], scratch: Path) -> int:
    """Convert files in turn, and append the outcome of each to a file."""
    from dpo_data import convert
    from dpo_data.errors import DataError

    for kind, data in batch:
        file, out = scratch / f"broken.{kind}", scratch / "out"
        file.write_bytes(data)
        shutil.rmtree(out, ignore_errors=True)
        try:
            manifest = convert("pairs", [file], output=out, max_invalid=1.0, form="auto")
            line = "found" if manifest.rows_read <= 12 * 30 else "silent more rows than there are"
        except DataError as error:
            line = "found" if file.name in str(error) else f"unnamed {str(error).splitlines()[0]}"
        except MemoryError as error:
            line = f"traceback MemoryError {error}"
        except Exception as error:
            line = f"traceback {type(error).__name__}: {str(error)[:200]!r}"
        with (scratch / "outcomes").open("a") as outcomes:
            outcomes.write(line.replace("\n", " ") + "\n")
        file.unlink()
    return 0
