"""Fetching an open source over the network: only on request, and never without saying what came."""

import hashlib
import http.client
import io
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tailrisk.errors import UserError
from tailrisk.tables import replacing


def download(url: str, sha256: str | None, output: Path) -> None:
    """Fetch `url` to `output`. `sha256` is that of the file, or of a file inside it where it is a zip archive."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise UserError(f"cannot download {url}: {getattr(error, 'reason', error)}") from None
    if sha256 and sha256 not in _checksums(content):
        raise UserError(f"{url} does not hold a file with the SHA-256 {sha256}: the source has changed, or is damaged")
    with replacing(output) as temporary:
        temporary.write_bytes(content)


def _checksums(content: bytes) -> set[str]:
    """Checksums of the content and, for a zip archive, of its files; archives in an archive are opened as well."""
    found = {hashlib.sha256(content).hexdigest()}
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                found |= _checksums(archive.read(name))
    return found
