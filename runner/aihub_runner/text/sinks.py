"""Escape text for the place that it is written to. One function for each."""

from __future__ import annotations

import re

from aihub_runner.text.escape import escape_control_chars

_SIGN = re.compile(r"[^\w /,.()-]|_")


def escape_annotation(text: str) -> str:
    """Return text for the message of a GitHub annotation. Lines stay lines, and no line starts another command."""
    kept = escape_control_chars(text, keep="\n")
    return kept.replace("%", "%25").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Return text for a property of a GitHub annotation, such as the name of a file."""
    return escape_annotation(text).replace(":", "%3A").replace(",", "%2C")


def escape_markdown(text: str) -> str:
    """Return text as code in Markdown that is HTML, too. No sign in it formats, links or mentions anything."""
    return f"<code>{_SIGN.sub(lambda match: f'&#{ord(match[0])};', escape_control_chars(text))}</code>"


def escape_xml(text: str) -> str:
    """Return text for an attribute or an element of XML, which cannot hold some characters at all."""
    import html  # only records for CI need it

    return html.escape(escape_control_chars(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff"))
