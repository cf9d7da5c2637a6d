"""What is markup in the bytes of an XML file: tags, comments, CDATA, processing instructions, the document type."""

from __future__ import annotations

import re

_NAME = rb"""[^\s<>/="'!?]++"""
ATTRIBUTES = rb"""(?:\s+[^\s<>/="']++\s*=\s*(?:"[^"]*"|'[^']*'))*+\s*"""
COMMENT = rb"<!--.*?-->"
DOCTYPE = re.compile(
    rb"""<!DOCTYPE(?:[^\[<>"']|"[^"]*"|'[^']*')*+"""
    rb"""(?:\[(?P<inner>(?:[^\]<]|<!--.*?-->|<\?.*?\?>|<!(?!--)(?:[^"'>]|"[^"]*"|'[^']*')*+>)*+)\]\s*)?>""",
    re.DOTALL,
)
TAG = re.compile(rb"</?" + _NAME + ATTRIBUTES + rb"/?>")
BROKEN_TAG = re.compile(rb"<[^<>]*+>?")
"""A tag as far as it goes, whatever stands in it."""
ENTITY = re.compile(rb"<!ENTITY\s")
_ANY_TAG = re.compile(rb"<(" + _NAME + rb")")
SPANS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}


def tags(head: bytes) -> list[bytes]:
    """Return the names of the start tags, in order."""
    plain = re.sub(COMMENT + rb"|<!\[CDATA\[.*?\]\]>|<\?.*?\?>", b"", head, flags=re.DOTALL)
    return [found.group(1) for found in _ANY_TAG.finditer(DOCTYPE.sub(b"", plain))]
