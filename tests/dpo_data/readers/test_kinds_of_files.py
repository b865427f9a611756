"""Files as people have them: each gives the right rows, or is refused with a reason."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from raw_files import read_rows, refusal, written

ROWS = [{"prompt": f"Question {n}?", "chosen": f"Good, {n}", "rejected": f"Bad {n}"} for n in range(40)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
TABLE = pa.table(COLUMNS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
ARRAY = json.dumps(ROWS)
PRETTY = json.dumps(ROWS, indent=2)
OBJECTS = "".join(json.dumps(row, indent=2) + "\n" for row in ROWS)
HALF = len(LINES.encode()) // 2


def table_text(delimiter: str, rows: Sequence[dict[str, Any]] = ROWS, newline: str = "\r\n") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parquet(table: pa.Table = TABLE, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table: pa.Table = TABLE, opened: Any = pa.ipc.new_stream, **options: Any) -> bytes:
    sink = io.BytesIO()
    with opened(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def with_type(type_: pa.DataType) -> pa.Table:
    return TABLE.cast(pa.schema([(name, type_) for name in COLUMNS]))


def string_views() -> dict[str, bytes]:
    """Return files with string views, which pyarrow 18 does not fully support."""
    table = with_type(pa.string_view())
    try:
        return {"string_view.parquet": parquet(table), "string_view.arrow": arrow(table)}
    except pa.ArrowNotImplementedError:
        return {}


def zipped(*members: tuple[str, bytes | str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return sink.getvalue()


def tarred(*members: tuple[str, bytes | str]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return sink.getvalue()


def damaged(archive: bytes) -> bytes:
    return archive[:60] + bytes(byte ^ 0xFF for byte in archive[60:70]) + archive[70:]


def encrypted(archive: bytes) -> bytes:
    """Return an archive of one member with the bit that says that it is encrypted."""
    changed = bytearray(archive)
    changed[6] |= 1
    changed[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


TAR = tarred(("ok.jsonl", LINES))
#: Files that all have the same rows.
RIGHT: dict[str, bytes | str] = {
    # JSON
    "lines.jsonl": LINES,
    "upper.JSONL": LINES,
    "lines.json": LINES,
    "crlf.jsonl": LINES.replace("\n", "\r\n"),
    "cr.jsonl": LINES.replace("\n", "\r"),
    "bom.jsonl": "\ufeff" + LINES,
    "double_bom.jsonl": "\ufeff\ufeff" + LINES,
    "lines_commas.jsonl": LINES.replace("}\n", "},\n"),
    "lines_commas.json": LINES.replace("}\n", "},\n"),
    "one_line.jsonl": LINES.replace("\n", " "),
    "array.json": ARRAY,
    "array.jsonl": ARRAY,
    "array_over_lines.jsonl": ARRAY.replace("}, {", "},\n{"),
    "pretty.json": PRETTY,
    "pretty.jsonl": PRETTY,
    "pretty_objects.json": OBJECTS,
    "pretty_objects.jsonl": OBJECTS,
    "trailing_comma.json": ARRAY[:-1] + ",]",
    "data_key.json": json.dumps({"data": ROWS}),
    "data_key.jsonl": json.dumps({"data": ROWS}),
    "pretty_data_key.json": json.dumps({"version": "1", "info": {"data": [1]}, "data": ROWS, "more": []}, indent=1),
    "train_key.json": json.dumps({"train": ROWS}),
    "pandas_table.json": json.dumps({"schema": {"fields": []}, "data": ROWS}),
    # Tables in text
    "comma.csv": table_text(","),
    "bom.csv": "\ufeff" + table_text(","),
    "double_bom.csv": "\ufeff\ufeff" + table_text(","),
    "semicolon.csv": table_text(";"),
    "bom_excel_semicolon.csv": "\ufeff" + table_text(";"),
    "pipe.csv": table_text("|"),
    "tab.csv": table_text("\t"),
    "tab.tsv": table_text("\t"),
    "cr.csv": table_text(",", newline="\r"),
    # Other encodings, with byte order marks
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf16_be.jsonl": ("\ufeff" + LINES).encode("utf-16-be"),
    "utf16.json": ARRAY.encode("utf-16"),
    "utf16.csv": table_text(",").encode("utf-16"),
    "utf16.tsv": table_text("\t").encode("utf-16"),
    "utf32.jsonl": LINES.encode("utf-32"),
    "utf16.jsonl.gz": gzip.compress(LINES.encode("utf-16")),
    # Compression
    "lines.jsonl.gz": gzip.compress(LINES.encode()),
    "lines.jsonl.xz": lzma.compress(LINES.encode()),
    "lines.csv.xz": lzma.compress(table_text(",").encode()),
    "members.jsonl.gz": gzip.compress(LINES.encode()[:HALF]) + gzip.compress(LINES.encode()[HALF:]),
    "members.jsonl.bz2": bz2.compress(LINES.encode()[:HALF]) + bz2.compress(LINES.encode()[HALF:]),
    "frames.jsonl.zst": zstandard.compress(LINES.encode()[:HALF]) + zstandard.compress(LINES.encode()[HALF:]),
    "streams.jsonl.xz": lzma.compress(LINES.encode()[:HALF]) + lzma.compress(LINES.encode()[HALF:]),
    "gzip_inside.jsonl": gzip.compress(LINES.encode()),
    "gzip_inside.csv": gzip.compress(table_text(";").encode()),
    "xz_inside.json": lzma.compress(ARRAY.encode()),
    "zstd_inside.jsonl": zstandard.compress(LINES.encode()),
    "bz2_inside.jsonl": bz2.compress(LINES.encode()),
    # Archives
    "data.zip": zipped(("train.jsonl", LINES)),
    "lines.jsonl.zip": zipped(("train.jsonl", LINES)),
    "zip_inside.jsonl": zipped(("train.jsonl", LINES)),
    "data.tar": TAR,
    "data.tar.gz": gzip.compress(TAR),
    "data.tgz": gzip.compress(TAR),
    "lines.jsonl.tar.gz": gzip.compress(TAR),
    "data.tar.xz": lzma.compress(TAR),
    "data.tar.zst": zstandard.compress(TAR),
    "data.tar.bz2": bz2.compress(TAR),
    "several.zip": zipped(
        ("a/x.csv", table_text(";", ROWS[:15])),
        ("b/readme.txt", "no data"),
        ("b/y.jsonl.gz", gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS[15:]).encode())),
        ("__MACOSX/b/._y.jsonl", b"\0\5\x16\7"),
    ),
    # Parquet and Arrow
    "plain.parquet": parquet(),
    **{f"{codec}.parquet": parquet(compression=codec) for codec in ("snappy", "gzip", "brotli", "lz4", "zstd", "none")},
    "groups.parquet": parquet(row_group_size=7),
    "large_string.parquet": parquet(with_type(pa.large_string())),
    "bytes.parquet": parquet(with_type(pa.binary())),
    "dictionary.parquet": parquet(with_type(pa.dictionary(pa.int32(), pa.string()))),
    "parquet_inside.jsonl": parquet(),
    "stream.arrow": arrow(),
    "file.arrow": arrow(opened=pa.ipc.new_file),
    "v2.feather": arrow(opened=pa.ipc.new_file),
    "zstd.arrow": arrow(compression="zstd"),
    "large_string.arrow": arrow(with_type(pa.large_string())),
    **string_views(),
    "bytes.arrow": arrow(with_type(pa.binary())),
    "dictionary.arrow": arrow(with_type(pa.dictionary(pa.int32(), pa.string()))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_kind_of_file_gives_its_rows(tmp_path, name):
    assert [row.value for row in read_rows(written(tmp_path / name, RIGHT[name]))] == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gb18030", "utf-16-le", "utf-16", "shift_jis", "utf-8"])
def test_an_encoding_can_be_named(tmp_path, name, encoding):
    text = {"gb18030": "你好", "shift_jis": "こんにちは", "latin-1": "Ça va"}.get(encoding, "Ça va, voilà – “oui” €")
    row = {"prompt": "Q?", "chosen": text, "rejected": "no"}
    content = table_text(",", [row]) if name.endswith("csv") else json.dumps(row, ensure_ascii=False)
    path = written(tmp_path / name, content.encode(encoding))
    assert [found.value for found in read_rows(path, encoding=encoding)] == [row]


TABLE_ERROR = (
    "it holds a whole table in one object; write its rows instead, as pandas does with "
    'to_json(orient="records", lines=True).'
)
#: Files that are refused, with the reason.
REFUSED: dict[str, tuple[bytes | str, str]] = {
    "columns.json": (json.dumps({name: dict(enumerate(of)) for name, of in COLUMNS.items()}), TABLE_ERROR),
    "columns_list.json": (json.dumps(COLUMNS), TABLE_ERROR),
    "index.json": (json.dumps(dict(enumerate(ROWS))), TABLE_ERROR),
    "split.json": (
        json.dumps({"columns": list(COLUMNS), "index": [0], "data": [["a?", "x", "y"]]}),
        TABLE_ERROR,
    ),
    "table_inside.jsonl": (json.dumps(COLUMNS), TABLE_ERROR),
    "twice.json": (ARRAY + "\n" + LINES, "more text follows the end of the records at line 2."),
    "utf16le_nobom.csv": (
        table_text(",").encode("utf-16-le"),
        "it looks like utf-16-le without a byte order mark; name it: encoding=utf-16-le.",
    ),
    "utf16be_nobom.jsonl": (
        LINES.encode("utf-16-be"),
        "it looks like utf-16-be without a byte order mark; name it: encoding=utf-16-be.",
    ),
    "utf32_nobom.json": (
        ARRAY.encode("utf-32-le"),
        "it looks like utf-32-le without a byte order mark; name it: encoding=utf-32-le.",
    ),
    "truncated.jsonl.xz": (lzma.compress(LINES.encode())[:-40], "Truncated compressed stream."),
    "damaged.jsonl.xz": (lzma.compress(LINES.encode())[:60] + b"\0" * 200, "xz decompression failed: "),
    "no_xz.jsonl.xz": (LINES, "xz decompression failed: "),
    "garbage.jsonl.gz": (gzip.compress(LINES.encode()) + b"garbage", "zlib inflate failed: incorrect header check."),
    "truncated.zip": (zipped(("a.jsonl", LINES))[:-60], "damaged zip archive: "),
    "no.zip": (LINES, "damaged zip archive: "),
    "encrypted.zip": (
        encrypted(zipped(("a.jsonl", LINES))),
        "a.jsonl in the archive is encrypted; unpack it first.",
    ),
    "damaged.zip": (damaged(zipped(("a.jsonl", LINES))), "a.jsonl in the archive is damaged: "),
    "ends_between.tar": (tarred(("a.jsonl", LINES), ("b.jsonl", LINES))[:3584], "the tar archive ends early."),
    "truncated.tar": (TAR[: 512 * 3], "damaged tar archive: "),
    "no.tar": (LINES, "damaged tar archive: "),
    "truncated.tar.gz": (gzip.compress(TAR)[:-30], "Truncated compressed stream."),
    "without.zip": (zipped(("a.txt", LINES)), "no file in the archive has a known format: .jsonl, "),
    "tables.zip": (
        zipped(("a.parquet", parquet())),
        "a parquet file inside an archive cannot be read; extract it first.",
    ),
    "tar_inside.zip": (zipped(("a.jsonl", TAR)), "a tar file inside an archive cannot be read; extract it first."),
    "zip_inside.tar": (
        tarred(("a.jsonl.gz", gzip.compress(zipped(("a.jsonl", LINES))))),
        "a zip file inside an archive cannot be read; extract it first.",
    ),
    "zip.jsonl.gz": (
        gzip.compress(zipped(("a.jsonl", LINES))),
        "a zip file cannot be compressed as a whole; decompress it first.",
    ),
    "inside.jsonl.gz": (
        gzip.compress(parquet()),
        "a parquet file cannot be compressed as a whole; decompress it first.",
    ),
    "truncated.parquet": (parquet()[:-9], "Parquet magic bytes not found in footer. "),
    "lines.parquet": (LINES, "Parquet magic bytes not found in footer. "),
    "v1.feather": (b"FEA1" + b"\0" * 40, "it has version 1 of Feather, which is obsolete; write it again as Parquet."),
    "pointer.jsonl": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "it is a pointer of Git LFS; get the file with: git lfs pull.",
    ),
    "page.csv": ("\n<!doctype HTML><html>", "it is a web page; download the file itself."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_with_the_reason(tmp_path, name):
    content, reason = REFUSED[name]
    assert refusal(written(tmp_path / name, content)).partition(": cannot be read: ")[2].startswith(reason)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
@pytest.mark.parametrize("encoding", ["cp1252", "gb18030", "shift_jis"])
def test_text_in_another_encoding_is_refused_with_the_option(tmp_path, name, encoding):
    text = {"gb18030": "你好", "shift_jis": "こんにちは"}.get(encoding, "voilà – “oui” €")
    rows = [{"prompt": "Q?", "chosen": text, "rejected": "no"}] * 30
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = table_text(",", rows) if name.endswith("csv") else lines
    path = written(tmp_path / name, content.encode(encoding))
    assert refusal(path).partition("cannot be read: ")[2] == (
        "it is not UTF-8; name its encoding, such as encoding=cp1252 (Western Windows), gb18030 (Chinese) or shift_jis "
        "(Japanese)."
    )
    assert [row.value for row in read_rows(path, encoding=encoding)] == rows


def test_damaged_rows_between_rows_in_utf8_are_refused_alone(tmp_path):
    lines = [b'{"a": "caf\xe9"}\n'] * 30 + ['{"a": "café"}\n'.encode()]
    values = [row.value for row in read_rows(written(tmp_path / "a.jsonl", b"".join([*lines, b"\n"])))]
    assert values == [{"a": "caf\udce9"}] * 30 + [{"a": "café"}]
