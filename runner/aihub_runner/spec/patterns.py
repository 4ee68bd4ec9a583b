"""Patterns for paths: which folders can contain a match, and which files match. Pure. Names are compared in NFC.

A pattern is a sequence of names, separated by `/`. `*`, `?` and `[…]` match within a name, `**` matches any number of
folders, `{a,b}` matches either, and `\\` escapes a character. A name with a leading dot matches only if the pattern has
the dot. A literal extension at the end is case-insensitive; everything else is case-sensitive.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

MAX_EXPANDED = 1000
ANY_FOLDERS = "**"

# The position of a walk in each pattern: (index of the branch, number of its folders that are matched).
State = frozenset[tuple[int, int]]


def expand_pattern(pattern: str) -> list[list[str]]:
    """Expand the braces of a pattern, and split each result into names. An absolute one begins with an empty name.

    Removes `.`, double slashes, and `..` with the name before it. A trailing slash means everything in the folder.
    Raises ValueError with a message for the user.
    """
    if not pattern.strip() or "\0" in pattern:
        raise ValueError("is empty, or contains a NUL")
    normal = unicodedata.normalize("NFC", pattern)
    return [
        _normalise(given) for given in dict.fromkeys(_expand_braces(normal) if "{" in normal else [normal]) if given
    ]


def _expand_braces(pattern: str) -> list[str]:
    import bracex  # slow to import

    try:
        return list(bracex.iexpand(pattern, keep_escapes=True, limit=MAX_EXPANDED))
    except bracex.ExpansionLimitException:
        raise ValueError(f"expands to more than {MAX_EXPANDED} patterns") from None


def _normalise(pattern: str) -> list[str]:
    names: list[str] = [""] if pattern.startswith("/") else []
    for name in pattern.split("/"):
        if name == ".." and names and names[-1] not in ("", ".."):
            if not is_literal(names.pop()):
                raise ValueError("has .. after a wildcard")
        elif name not in ("", "."):
            names.append(name)
    if pattern.endswith("/") or names[-1:] in ([], [".."], [ANY_FOLDERS]):
        names += [ANY_FOLDERS, "*"] if names[-1:] != [ANY_FOLDERS] else ["*"]
    return names


def anchor_names(names: Sequence[str], folder: str) -> list[str]:
    """Return the names of a pattern with its leading literal folders normalised, relative to a folder."""
    count = next((i for i, name in enumerate(names[:-1]) if not is_literal(name)), len(names) - 1)
    literal = [plain_name(name) for name in names[:count]]
    if not set(literal) & {"", ".."}:
        return list(names)
    path = posixpath.normpath(posixpath.join(folder, "/".join(literal) or "/"))
    relative = posixpath.relpath(path, folder)
    return [*(_escape(name) for name in relative.split("/") if name != "."), *names[count:]]


def is_literal(name: str) -> bool:
    """Whether a name has no wildcards."""
    return not re.search(r"[*?\[]", re.sub(r"\\.", "", name))


def plain_name(name: str) -> str:
    """Return a name without wildcards as it is written on disk: without the escapes."""
    return re.sub(r"\\(.)", r"\1", name)


def _escape(name: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", name)


class _Folder(Struct, frozen=True):
    """The name of a folder in a pattern: `literal` if it has no wildcards, else an expression."""

    literal: str
    expression: re.Pattern[str] | None


class _Files:
    """File name patterns, indexed by their literal extension in lower case, so that most names need no regex."""

    def __init__(self, patterns: Iterable[str], hidden: bool) -> None:
        self._any: list[re.Pattern[str]] = []
        self._by_extension: dict[str, list[re.Pattern[str]]] = {}
        for pattern in dict.fromkeys(patterns):
            stem, extension = _split_extension(pattern)
            here = self._by_extension.setdefault(extension, []) if extension else self._any
            here.append(_compile(stem, hidden))

    def match(self, name: str) -> bool:
        if self._by_extension:
            stem, _, extension = name.rpartition(".")
            for one in self._by_extension.get(extension.lower(), ()):
                if one.fullmatch(stem):
                    return True
        for one in self._any:  # noqa: SIM110, any() takes twice as long
            if one.fullmatch(name):
                return True
        return False


def _split_extension(pattern: str) -> tuple[str, str]:
    """Split off a literal extension, in lower case; empty if there is none."""
    stem, _, extension = pattern.rpartition(".")
    if not stem.rstrip("\\") or not re.fullmatch(r"[A-Za-z0-9+]+", extension):
        return pattern, ""
    escaped = (len(stem) - len(stem.rstrip("\\"))) % 2  # a backslash before a dot changes nothing
    return stem[: len(stem) - escaped], extension.lower()


def _compile(name: str, hidden: bool) -> re.Pattern[str]:
    if name == "*":  # what most patterns end with
        return re.compile(".+" if hidden else "[^.].*", re.DOTALL)
    from wcmatch import fnmatch  # slow to import

    flags = fnmatch.CASE | fnmatch.FORCEUNIX | (fnmatch.DOTMATCH if hidden else 0)
    return re.compile("|".join(fnmatch.translate(name, flags=flags)[0]))


class _Branch(Struct):
    """Patterns with the same folders. None stands for `**`."""

    folders: tuple[_Folder | None, ...]
    files: list[str]


class Globs:
    """Patterns, compiled together. A walk begins at `start`, continues with `enter`, and ends at an empty state.

    With `hidden`, wildcards match names with a leading dot, as excluding patterns need.
    """

    def __init__(self, patterns: Iterable[Sequence[str]], *, hidden: bool = False) -> None:
        self._hidden = hidden
        grouped: dict[tuple[str, ...], list[str]] = {}
        for *folders, last in patterns:
            grouped.setdefault(tuple(folders), []).append(last)
        self._branches = [_Branch(tuple(map(self._compile_folder, key)), files) for key, files in grouped.items()]
        self._prefixes = {_literal_prefix(folders) for folders in grouped}
        self._files: dict[State, _Files] = {}

    def _compile_folder(self, name: str) -> _Folder | None:
        if name == ANY_FOLDERS:
            return None
        if is_literal(name):
            return _Folder(plain_name(name), None)
        return _Folder("", _compile(name, self._hidden))

    @property
    def prefixes(self) -> list[tuple[str, ...]]:
        """The folders in which a walk starts, outer ones first. Nothing matches elsewhere."""
        return sorted(self._prefixes, key=lambda prefix: (len(prefix), prefix))

    def start(self) -> State:
        """Return the state at the folder that the patterns are relative to."""
        return self._close((number, 0) for number in range(len(self._branches)))

    def enter(self, state: State, name: str, *, linked: bool = False) -> State:
        """Return the state in a folder below. A symlink is entered only if a pattern names it without wildcards."""
        found = set()
        for number, depth in state:
            folders = self._branches[number].folders
            if depth == len(folders):
                continue
            wanted = folders[depth]
            if wanted is None:
                if not linked and (self._hidden or not name.startswith(".")):
                    found.add((number, depth))
            elif name == wanted.literal or (
                wanted.expression and not linked and name != ".." and wanted.expression.fullmatch(name)
            ):
                found.add((number, depth + 1))
        return self._close(found)

    def takes(self, state: State, name: str) -> bool:
        """Whether a file in the current folder of a walk matches."""
        return self.files_in(state)(name)

    def files_in(self, state: State) -> Callable[[str], bool]:
        """Return whether the name of a file in the current folder of a walk matches."""
        files = self._files.get(state)
        if files is None:
            names = (name for branch in self._ended(state) for name in branch.files)
            files = self._files[state] = _Files(names, self._hidden)
        return files.match

    def takes_all(self, state: State) -> bool:
        """Whether everything below the current folder of a walk matches, hidden or not."""
        return self._hidden and any(
            "*" in branch.files and branch.folders[-1:] == (None,) for branch in self._ended(state)
        )

    def _ended(self, state: State) -> list[_Branch]:
        """List the branches with all folders matched."""
        return [self._branches[number] for number, depth in state if depth == len(self._branches[number].folders)]

    def matches(self, path: str) -> bool:
        """Whether a path matches. It is relative to the same folder as the patterns."""
        *folders, name = unicodedata.normalize("NFC", path).split("/")
        state = self.start()
        for folder in folders:
            state = self.enter(state, folder) if folder else state  # behind the scheme of a URL
        return self.takes(state, name)

    def _close(self, places: Iterable[tuple[int, int]]) -> State:
        """Add the positions behind each `**`, which also matches no folder."""
        found = set()
        for number, depth in places:
            folders = self._branches[number].folders
            while (number, depth) not in found:
                found.add((number, depth))
                if depth < len(folders) and folders[depth] is None:
                    depth += 1
        return frozenset(found)


def _literal_prefix(folders: Sequence[str]) -> tuple[str, ...]:
    """Return the leading literal folders. Stops at names beyond ASCII, which may have another form on disk."""
    count = next((i for i, name in enumerate(folders) if not is_literal(name) or not name.isascii()), len(folders))
    return tuple(plain_name(name) for name in folders[:count])


def list_roots(patterns: Iterable[str], folder: str) -> list[str]:
    """List the folders in which including patterns may match: their leading literal folders, without wildcards."""
    roots = set()
    for pattern in patterns:
        if not pattern.startswith("!"):
            for names in expand_pattern(pattern):
                roots.add(posixpath.join(folder, *_literal_prefix(anchor_names(names, folder)[:-1])))
    return sorted(root for root in roots if not any(root.startswith(f"{other}/") for other in roots))


def list_parts(pattern: str) -> dict[str, list[list[str]]]:
    """Split an including pattern into parts, one for each expansion of its folders, by their labels.

    Each part is checked for matches, so that a single missing folder is noticed.
    """
    by_folders: dict[tuple[str, ...], list[list[str]]] = {}
    for names in expand_pattern(pattern):
        by_folders.setdefault(tuple(names[:-1]), []).append(names)
    if len(by_folders) == 1:
        return {pattern: next(iter(by_folders.values()))}
    return {_name_part(folders, names): names for folders, names in by_folders.items()}


def _name_part(folders: tuple[str, ...], names: Sequence[Sequence[str]]) -> str:
    last = [one[-1] for one in names]
    return "/".join([*_with_slashes(folders), last[0] if len(last) == 1 else f"{{{','.join(last)}}}"])


def find_idle_parts(patterns: Iterable[str], folder: str, paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the parts of patterns that match some of the paths, and those that match none, in order."""
    left = {}
    for pattern in patterns:
        if not pattern.startswith("!"):
            for label, names in list_parts(pattern).items():
                left[label] = Matcher(Globs([anchor_names(one, folder) for one in names]))
    labels = list(left)
    for path in paths:
        if not left:
            break
        for label in [label for label, matcher in left.items() if matcher.matches(path)]:
            del left[label]
    return [label for label in labels if label not in left], list(left)


def _with_slashes(folders: Sequence[str]) -> list[str]:
    """Return folders as the URL that they may be writes them: with an empty name behind its scheme."""
    if not folders or not folders[0].endswith(":"):
        return list(folders)
    return [folders[0], *[""] * (2 if folders[0] == "file:" else 1), *folders[1:]]


class Matcher:
    """Match many paths in few folders."""

    def __init__(self, globs: Globs) -> None:
        self._globs = globs
        self._states: dict[str, State] = {}

    def matches(self, path: str) -> bool:
        """Whether a path matches, relative to the same folder as the patterns."""
        folder, _, name = (path if path.isascii() else unicodedata.normalize("NFC", path)).rpartition("/")
        if folder not in self._states:
            state = self._globs.start()
            for step in filter(None, folder.split("/")):
                state = self._globs.enter(state, step)
            self._states[folder] = state
        return bool(self._states[folder]) and self._globs.takes(self._states[folder], name)


def name_exactly(patterns: Iterable[str]) -> frozenset[str]:
    """List the names of files and folders that including patterns name without wildcards."""
    expanded = [names for pattern in patterns if not pattern.startswith("!") for names in expand_pattern(pattern)]
    return frozenset(plain_name(name) for names in expanded for name in names if is_literal(name))


def explain_pattern(pattern: str) -> str:
    """Return a hint for a pattern that matches nothing and is probably meant otherwise; else an empty text."""
    plain = pattern.removeprefix("!")
    if plain.startswith("~"):
        return "write the folder in full, ~ is not expanded"
    if re.search(r"\\[^][{}\\!,-]", plain):
        return "use / between folders, \\ escapes a character"
    if re.search(r"(?<!\\)\[", plain):
        escaped = re.sub(r"(?<!\\)\[", r"\\[", pattern)
        return rf"write \[ for a bracket in a name, as in '{escaped}'; [ab] matches one character, a or b"
    return ""


def compile_globs(patterns: Iterable[str], folder: str) -> tuple[Globs, Globs]:
    """Compile a list of patterns into those that include and those that exclude, the `!patterns`.

    `folder` is the absolute folder that they are relative to. A `!pattern` that ends in a name without wildcards
    also excludes the folder with that name.
    """
    take: list[list[str]] = []
    leave: list[list[str]] = []
    for pattern in patterns:
        anchored = [anchor_names(names, folder) for names in expand_pattern(pattern.removeprefix("!"))]
        if not pattern.startswith("!"):
            take += anchored
            continue
        leave += anchored
        leave += [[*names, ANY_FOLDERS, "*"] for names in anchored if is_literal(names[-1])]
    return Globs(take), Globs(leave, hidden=True)
