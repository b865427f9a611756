"""Files of the web, read with the standard library from a server of this process."""

import gzip
import json
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from raw_files import TABLE, TABLE_ROWS, refusal, seen, write_table
from typer.testing import CliRunner

from dpo_data.cli.app import app
from dpo_data.errors import InputError
from dpo_data.readers.inputs import find_inputs

LINES = b'{"a": 1}\n{"a": 2}\n'
ROWS = [(1, {"a": 1}), (2, {"a": 2})]


class Handler(BaseHTTPRequestHandler):
    """Answers with the file of the path, of which "cut" ends early and "private" needs a password."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        expected = f"Basic {b64encode(b'me:pass word').decode()}"
        if path not in self.files or (path.startswith("/private") and self.headers["Authorization"] != expected):
            self.send_error(404 if path not in self.files else 401)
            return
        content = self.files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if "cut" in path else content)

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("train.jsonl", LINES)
    table = write_table(tmp_path_factory.mktemp("web") / "a.parquet", TABLE, "parquet")
    Handler.files = {
        "/data/train.jsonl": LINES,
        "/data/test set.jsonl.gz": gzip.compress(LINES),
        "/data/array.jsonl": json.dumps([{"a": 1}, {"a": 2}]).encode(),
        "/data/a.parquet": table.read_bytes(),
        "/data/a.zip": archive.getvalue(),
        "/data/cut.jsonl": LINES * 100_000,
        "/private/train.jsonl": LINES,
        "/private/pairs.jsonl": b'{"prompt": "Who?", "chosen": "A robot.", "rejected": "Go away."}\n',
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.files["/data/test%20set.jsonl.gz"] = Handler.files["/data/test set.jsonl.gz"]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_web_file_is_read_without_further_packages(address):
    assert seen(f"http://{address}/data/train.jsonl") == ROWS


def test_the_format_and_the_split_come_from_the_path_of_the_url_alone(address):
    url = f"http://{address}/data/test%20set.jsonl.gz?download=true&name=train.csv"
    (file,) = find_inputs([url])
    assert (file.label, file.split, file.format.name) == (
        f"http://{address}/data/test%20set.jsonl.gz",
        "test",
        "jsonl",
    )
    assert seen(url) == ROWS


def test_content_that_differs_from_the_name_is_read(address):
    assert [value for _, value in seen(f"http://{address}/data/array.jsonl?x=*")] == [{"a": 1}, {"a": 2}]


def test_tables_and_archives_which_need_random_access_are_copied_first(address):
    assert seen(f"http://{address}/data/a.parquet?token=1") == TABLE_ROWS
    assert seen(f"http://{address}/data/a.zip") == ROWS


def test_a_connection_that_ends_early_is_an_error(address):
    assert refusal(f"http://{address}/data/cut.jsonl") == (
        f"http://{address}/data/cut.jsonl: cannot be read: the connection ended after 900,000 of 1,800,000 bytes."
    )


def test_user_password_and_query_are_sent_but_never_shown(address):
    (file,) = find_inputs([f"http://me:pass%20word@{address}/private/train.jsonl?token=secret"])
    assert file.label == f"http://{address}/private/train.jsonl"
    assert [row.value for chunk in file.chunks() for row in chunk.rows()] == [{"a": 1}, {"a": 2}]
    wrong = refusal(f"http://me:secret@{address}/private/train.jsonl?token=secret")
    assert wrong == (
        f"http://{address}/private/train.jsonl: cannot be reached: HTTP Error 401: Unauthorized.\n"
        "  Check the address and the network connection, or read a local copy."
    )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_sniff_prints_neither_user_password_nor_query_and_says_so(address, options):
    found = CliRunner().invoke(
        app, ["sniff", f"http://me:pass%20word@{address}/private/pairs.jsonl?token=secret", *options]
    )
    assert found.exit_code == 0, found.output
    assert f"--input http://{address}/private/pairs.jsonl " in found.stdout
    assert not [word for word in ("me:", "pass%20word", "token", "secret") if word in found.output]
    assert options or "add them to run the command" in found.stderr


def test_a_missing_web_file_is_refused_with_the_hint(address):
    assert refusal(f"http://{address}/data/none.jsonl?token=secret") == (
        f"http://{address}/data/none.jsonl: cannot be reached: HTTP Error 404: Not Found.\n"
        "  Check the address and the network connection, or read a local copy."
    )


def test_a_server_that_cannot_be_reached_is_refused(tmp_path: Path):
    assert refusal("http://127.0.0.1:9/a.jsonl").startswith("http://127.0.0.1:9/a.jsonl: cannot be reached: ")


def test_a_url_without_a_known_name_needs_the_format(address):
    with pytest.raises(InputError, match="cannot infer the format from the file name"):
        find_inputs([f"http://{address}/data?file=train.jsonl"])
