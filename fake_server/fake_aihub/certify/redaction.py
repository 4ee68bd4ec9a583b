"""Redaction of reports: tokens, people, accounts, and other people's data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import isfinite
from typing import Any
from urllib.parse import quote

EMAIL = re.compile(r"[\w.+-]{1,64}(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63})+")
PERSONAL = frozenset(
    (
        *("owner", "batch_owner", "repo_owner", "created_by", "last_updated_by", "user_id", "username"),
        *("user_name", "org", "email", "user_ip"),
    )
)
PLACES = frozenset(
    (
        *("full_path", "input_file_path", "input_dir", "output_dir", "path_suffix", "mount_point"),
        *("workspace", "allowed_workspaces", "output_workspace", "output_workspaces"),
    )
)
LISTS = frozenset(["batches", "runs", "secrets", "results"])
MIN_LENGTH = 3


class Redaction:
    """Replaces confidential values. A value that was learned is redacted in everything cleaned afterwards."""

    def __init__(self, mark: str, ids: Iterable[str]) -> None:
        self._names: dict[str, str] = {}
        self._mark, self._ids = mark, frozenset(ids)

    def hide(self, value: str, name: str) -> None:
        """Set the replacement of a value. Short values are ignored, because they would match unrelated text."""
        for form in (value, quote(value), quote(value, safe="")):
            if len(form) >= MIN_LENGTH:
                self._names.setdefault(form, name)

    def learn(self, value: Any) -> None:
        """Find people and places in a value, so that they are redacted everywhere."""
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, str) and (key in PERSONAL or key in ("workspace", "mount_point")):
                    self.hide(item, f"<{key}>")
                self.learn(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self.learn(item)

    def clean(self, value: Any, key: str = "") -> Any:
        """Return a value as JSON values without anything confidential."""
        if key in PERSONAL and value is not None:
            return f"<{key}>"
        if isinstance(value, dict):
            return {self._clean_text(str(name)): self.clean(item, str(name).lower()) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return self._clean_list(list(value), key)
        if isinstance(value, str):
            return self._clean_place(value) if key in PLACES else self._clean_text(value)
        is_plain = value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value))
        return value if is_plain else self._clean_text(repr(value))

    def _clean_list(self, items: list[Any], key: str) -> list[Any]:
        # A listing also contains other people's data. The report shows only their number.
        kept = [item for item in items if key not in LISTS or self._is_ours(item)]
        others = len(items) - len(kept)
        return [self.clean(item, key if key in PLACES else "") for item in kept] + (
            [f"<{others} of others>"] if others else []
        )

    def _is_ours(self, item: Any) -> bool:
        # Compare ids as a whole: a short number easily occurs in the digits of a timestamp.
        has_id = isinstance(item, dict) and str(item.get("id")) in self._ids
        return has_id or self._mark in json.dumps(item, ensure_ascii=False)

    def _clean_place(self, text: str) -> str:
        return "…/" + self._clean_text(text.rsplit("/", 1)[-1]) if "/" in text else "…"

    def _clean_text(self, text: str) -> str:
        for value in sorted(self._names, key=len, reverse=True):
            text = text.replace(value, self._names[value])
        return EMAIL.sub("<email>", text)
