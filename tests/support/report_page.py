"""What a page of the report has in it."""

import base64
import gzip
import json
import re
from typing import Any

import pytest

_CONTENT = re.compile(r'<script type="text/plain" id="content">(.*?)</script>')


def content_of(html: str) -> dict[str, Any]:
    """The content that a page draws; it must be strict JSON."""
    (packed,) = _CONTENT.findall(html)
    text = gzip.decompress(base64.b85decode(packed)).decode()
    content: dict[str, Any] = json.loads(
        text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    return content
