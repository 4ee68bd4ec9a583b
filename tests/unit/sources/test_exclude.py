"""What is never a source, by its name."""

from itertools import product

from aihub_runner.sources.exclude import is_litter, is_own_name, is_plain

BEGINS = ("", "a", "A-b_c (2)", "~", "~$", "#", ".", "._", ".~lock.", ".env", ".aihub-results", ".git", "\n", "é", " ")
NAMES = (
    "",
    "9",
    "thumbs",
    "ehthumbs_vista",
    "desktop",
    "icon\r",
    ".ds_store",
    "~wrd0001",
    "x.state",
    "x.aihub",
    "x.lock",
)
ENDS = (
    *(".pdf", ".PDF", ".txt", ".csv", ".jpeg", ".html", ".docx"),
    *(
        ".lock",
        ".toml",
        ".db",
        ".ini",
        ".part",
        ".tmp",
        ".bak~",
        ".swp",
        ".download",
        ".crdownload",
        "#",
        "~",
        "\n",
        "",
    ),
)


def test_plain_names_are_none_that_are_excluded() -> None:
    plain = [name for name in map("".join, product(BEGINS, NAMES, ENDS)) if is_plain(name)]
    assert {"a.pdf", "A-b_c (2)9.PDF", "thumbs.txt"} <= set(plain)
    excluded = [name for name in plain if is_own_name(name) or is_litter(name) or name.lower().endswith(".toml")]
    assert excluded == []
    assert all(name.isascii() and name.isprintable() for name in plain)
