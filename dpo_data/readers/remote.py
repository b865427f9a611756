"""Remote files: HTTP with the standard library, all other URLs with fsspec."""

import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import has_magic
from itertools import chain
from typing import Any
from urllib.parse import unquote, urlsplit

from dpo_data.errors import InputError, first_line
from dpo_data.escapes import without_secrets
from dpo_data.readers.streams import BlockStream, blocks_of

UNREACHABLE_HINT = "Check the address and the network connection, or read a local copy."
TIMEOUT_S = 60
#: Package and name of the exceptions that remote file systems raise besides those of Python.
REMOTE_ERRORS = {
    ("aiohttp", "ClientError"),
    ("azure", "AzureError"),
    ("botocore", "BotoCoreError"),
    ("botocore", "ClientError"),
    ("gcsfs", "HttpError"),
    ("http", "HTTPException"),
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),
    ("huggingface_hub", "HfHubHTTPError"),
}


def is_url(location: str) -> bool:
    """Return True if a location is a URL."""
    return "://" in location


def is_http(location: str) -> bool:
    """Return True if a location is a URL of the web, which may have a query."""
    return location.lower().startswith(("http://", "https://"))


def public_url(url: str) -> str:
    """Return a URL as it may be shown: without the query, user and password, which can be secrets.

    >>> public_url("https://me:secret@host:8080/a/train.jsonl?token=secret#part")
    'https://host:8080/a/train.jsonl'
    """
    return without_secrets(url)


def path_in(url: str) -> str:
    """Return the part of a URL that ends with the name of the file.

    >>> path_in("https://host/data/train%20set.jsonl?download=true")
    '/data/train set.jsonl'
    """
    return unquote(urlsplit(url).path) if is_http(url) else url


def expand_url(url: str, hint: str) -> list[str]:
    """Return the URLs that a URL with wildcards matches, or the URL itself if it has none; a query has none.

    Raises: InputError: the URL cannot be reached, or none matches.
    """
    import fsspec

    if not has_magic(public_url(url)):
        return [url]
    with reaching(url, hint, OSError, ValueError, ImportError):
        filesystem, path = fsspec.url_to_fs(url)
        matches = sorted(filesystem.glob(path))
    if not matches:
        raise InputError(f"{public_url(url)}: no file matches.")
    return [filesystem.unstrip_protocol(match) for match in matches]


def open_url(url: str, hint: str, *, random_access: bool) -> Any:
    """Return an open remote file.

    Args:
        url: of the file.
        hint: what to do if it cannot be reached.
        random_access: the file must be able to seek.

    Raises: InputError: it cannot be reached.
    """
    if is_http(url):
        with reaching(url, hint, OSError, ValueError):
            blocks = _http_blocks(url)
            blocks = chain([next(blocks, b"")], blocks)  # connects now
            return _copied(blocks) if random_access else BlockStream(blocks)
    import fsspec

    with reaching(url, hint, OSError, ValueError, ImportError):
        filesystem, path = fsspec.url_to_fs(url)
        return filesystem.open(path, "rb")


def _copied(blocks: Iterable[bytes]) -> Any:
    """Return a copy of a file in a temporary file without a name."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    copy.writelines(blocks)
    copy.seek(0)
    return copy


def _http_blocks(url: str) -> Iterator[bytes]:
    """Yield the content of a web file.

    Raises: OSError: it cannot be reached, or the connection ends before the file does.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    user, at, _ = urlsplit(url).netloc.rpartition("@")
    if at:
        url = url.replace(user + at, "", 1)
    request = Request(url, headers={"User-Agent": "dpo-data"})  # noqa: S310 - http and https only
    if at:
        request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}")
    try:
        opened = urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except HTTPError as error:
        error.close()  # it is the answer of the server too
        raise
    with opened as response:
        declared = response.headers.get("Content-Length")
        received = 0
        for block in blocks_of(response):
            received += len(block)
            yield block
    if declared is not None and received != int(declared):  # reading in parts raises nothing for it
        raise OSError(f"the connection ended after {received:,} of {int(declared):,} bytes")


@contextmanager
def reaching(url: str, hint: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise an InputError that names the URL in place of exceptions of these kinds, and of `REMOTE_ERRORS`."""
    try:
        yield
    except Exception as error:
        names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
        if not isinstance(error, kinds) and names.isdisjoint(REMOTE_ERRORS):
            raise
        reason = without_secrets(first_line(error).replace(url, public_url(url)))
        raise InputError(f"{public_url(url)}: cannot be reached: {reason}.\n  {hint}") from error
