"""Names in a batch and the grouping of files."""

from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.model import Source
from aihub_runner.plan.batching import MAX_NAME, assign_names, fold_name, group_sources, hashed_name


def source(path: str, digest: str = "sha256:00") -> Source:
    return Source(path, 1, digest)


def test_names_are_basenames_where_those_are_unique() -> None:
    assert assign_names(["a/x.pdf", "b/y.pdf"]) == {"a/x.pdf": "x.pdf", "b/y.pdf": "y.pdf"}


def test_names_of_one_basename_in_two_folders_carry_a_hash_each() -> None:
    names = assign_names(["2026 Q1/invoice.pdf", "2026 Q2/invoice.pdf"])
    assert names["2026 Q1/invoice.pdf"] == hashed_name("2026 Q1/invoice.pdf")
    assert len(set(names.values())) == 2
    assert all(name.startswith("invoice~") and name.endswith(".pdf") for name in names.values())


def test_names_that_differ_in_case_or_normal_form_only_are_told_apart() -> None:
    names = assign_names(["a/Größe.pdf", "b/Gro\u0308ße.pdf", "c/GRÖSSE.PDF"])
    assert len({fold_name(name) for name in names.values()}) == 3


def test_names_that_look_like_our_own_hashed_ones_do_not_collide() -> None:
    paths = ["a/x.pdf", "b/x.pdf", "c/" + hashed_name("a/x.pdf")]
    assert len({fold_name(name) for name in assign_names(paths).values()}) == 3


def test_names_over_255_bytes_are_cut_and_keep_their_extension() -> None:
    path = "ü" * 200 + ".pdf"
    name = assign_names([path])[path]
    assert len(name.encode()) <= MAX_NAME
    assert name.endswith(".pdf")
    assert "~" in name


parts = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=90
).filter(lambda text: text.strip("."))


@given(st.sets(st.tuples(parts, parts).map("/".join), min_size=1, max_size=30))
def test_names_are_unique_and_fit_for_any_paths(paths: set[str]) -> None:
    names = assign_names(sorted(paths))
    assert names.keys() == paths
    assert len({fold_name(name) for name in names.values()}) == len(paths)
    assert all(len(name.encode()) <= MAX_NAME for name in names.values())


def test_groups_are_cut_at_the_limit_in_the_order_of_paths() -> None:
    sources = [source(f"{number:04}.pdf") for number in reversed(range(2500))]
    groups = group_sources(sources, 1000)
    assert [len(group) for group in groups] == [1000, 1000, 500]
    assert groups[0][0].path == "0000.pdf"
    assert groups[2][-1].path == "2499.pdf"
