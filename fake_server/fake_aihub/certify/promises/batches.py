"""Promises about batches and the files in them."""

from __future__ import annotations

from fake_aihub.certify.promise import NO_BATCH, Check, check_equal, check_has, check_that
from fake_aihub.certify.promises.access import check_unit
from fake_aihub.certify.session import Hub

FILE = "/v2/batches/{}/files/{}"


def batch_id_is_a_whole_number(hub: Hub) -> None:
    answer = hub.create_batch(name=hub.new_name())
    check_equal("status", answer.status, 200)
    check_that("id", type(answer.json()["id"]) is int, answer.json()["id"], "a whole number")


def batch_names_are_kept_as_sent(hub: Hub) -> None:
    for strange in (" 50% %2F a/b", " é e\u0301 请求书 🧾", " \"'<>&\\"):
        name = hub.new_name(strange)
        check_equal("name", hub.ask(200, "GET", "/v2/batches/{}", hub.new_batch(name=name))["name"], name)


def batch_names_end_at_255(hub: Hub) -> None:
    hub.new_batch(name=hub.new_name().ljust(255, "x"))
    hub.refused(hub.create_batch(name=hub.new_name().ljust(256, "x")), 400)


def null_workspace_is_not_given(hub: Hub) -> None:
    body = {"name": hub.new_name(), "workspace": hub.options.workspace or None}
    check_equal("status", hub.create_batch(**body).status, 200)


def batches_of_one_name_are_two(hub: Hub) -> None:
    name = hub.new_name()
    one, two = hub.new_batch(name=name), hub.new_batch(name=name)
    check_that("ids", one != two, [one, two], "two different ones")


def batch_times_are_milliseconds(hub: Hub) -> None:
    batch = hub.ask(200, "GET", "/v2/batches/{}", hub.batch)
    check_unit(hub, "created_at_ms", batch["created_at_ms"], 1000)
    check_unit(hub, "updated_at_ms", batch["updated_at_ms"], 1000)
    check_that("updated_at_ms", batch["updated_at_ms"] >= batch["created_at_ms"], batch, "not before created_at_ms")


def batch_has_its_path(hub: Hub) -> None:
    batch = hub.ask(200, "GET", "/v2/batches/{}", hub.batch)
    check_equal("id", batch["id"], hub.batch)
    for key in ("workspace", "mount_point", "repo_owner", "batch_owner", "path_suffix"):
        check_that(key, isinstance(batch[key], str), batch[key], "a text")


def new_batch_is_listed(hub: Hub) -> None:
    name = hub.new_name(" ü")
    batch = hub.new_batch(name=name)
    found = hub.eventually("a batch is in the list", lambda: hub.find_batch(batch))
    check_equal("name", found["name"], name)


def list_and_batch_agree(hub: Hub) -> None:
    batch = hub.new_batch()
    listed = hub.eventually("a batch is in the list", lambda: hub.find_batch(batch))
    check_equal("batch in the list", listed, hub.ask(200, "GET", "/v2/batches/{}", batch))


def batches_are_paged_by_limit_and_offset(hub: Hub) -> None:
    made = [hub.new_batch() for _ in range(3)]
    hub.eventually("a batch is in the list", lambda: all(hub.find_batch(batch) for batch in made))

    def ids(limit: int, offset: int) -> list[int]:
        page = hub.ask(200, "GET", "/v2/batches", params={"limit": limit, "offset": offset})
        return [item["id"] for item in page["batches"]]

    def is_cut() -> bool:
        return ids(3, 0) == ids(2, 0) + ids(1, 2) and len(set(ids(3, 0))) == 3

    # Others may be creating batches at the same time.
    hub.eventually("pages of batches fit together", is_cut)


def offset_beyond_the_end_gives_no_batches(hub: Hub) -> None:
    page = hub.ask(200, "GET", "/v2/batches", params={"limit": 1, "offset": 10_000_000})
    check_equal("batches", page["batches"], [])


def _check_filter(hub: Hub, key: str, place: str) -> None:
    value = hub.ask(200, "GET", "/v2/batches/{}", hub.batch)[place]
    hub.eventually(f"a batch is in the list by {key}", lambda: hub.find_batch(hub.batch, **{key: value}))
    answer = hub.target.send("GET", "/v2/batches", params={key: f"certify-{hub.mark}", "limit": 100})
    if answer.status == 200:
        ids = [item["id"] for item in answer.json()["batches"]]
        check_that(f"batches of another {key}", hub.batch not in ids, hub.batch, "not in the list")


def deleted_batch_is_gone(hub: Hub) -> None:
    batch = hub.new_batch()
    _delete(hub, batch)
    hub.eventually("a deleted batch is gone", lambda: hub.target.send("GET", "/v2/batches/{}", batch).status == 404)
    hub.eventually("a deleted batch is in no list", lambda: hub.find_batch(batch) is None)


def _delete(hub: Hub, batch: int) -> str:
    job = hub.ask(202, "DELETE", "/v2/batches/{}", batch)["job_id"]
    hub.forget("batch", batch)
    check_that("job_id", isinstance(job, str) and job != "", job, "a text")
    return str(job)


def file_is_taken_with_204(hub: Hub) -> None:
    answer = hub.answer(204, "PUT", FILE, hub.batch, hub.new_name(".txt"), data=b"x")
    check_equal("body", answer.body, b"")


def file_sent_again_is_overwritten(hub: Hub) -> None:
    batch = hub.new_batch()
    for body in (b"the first", b"second"):
        hub.put(batch, "a.txt", body)
    size = hub.eventually(
        "a file that is sent again has its new size",
        lambda: [node["metadata"]["size"] for node in hub.files(batch)] == [6],
    )
    check_equal("one file, of the size last sent", size, True)


def _check_names(hub: Hub, *names: str) -> None:
    batch = hub.new_batch()
    for name in names:
        hub.put(batch, name, name.encode())
    wanted = sorted(names)
    hub.eventually(
        "files are in the list under the names sent", lambda: sorted(n["name"] for n in hub.files(batch)) == wanted
    )


def file_names_end_at_255(hub: Hub) -> None:
    _check_names(hub, "x" * 251 + ".txt")
    hub.refuses([400], "PUT", FILE, hub.batch, "x" * 256, data=b"x")


def sizes_are_those_sent(hub: Hub) -> None:
    for body in (b"", b"\x00\xff\r\n" * 2500):
        name = hub.new_name(".bin")
        hub.put(hub.batch, name, body)
        check_equal("size", hub.find_file(hub.batch, name)["metadata"]["size"], len(body))


def file_times_are_seconds(hub: Hub) -> None:
    name = hub.new_name(".txt")
    hub.put(hub.batch, name)
    check_unit(hub, "modified_timestamp", hub.find_file(hub.batch, name)["metadata"]["modified_timestamp"], 1)


def listed_file_has_its_path(hub: Hub) -> None:
    name = hub.new_name(".txt")
    hub.put(hub.batch, name)
    node = hub.find_file(hub.batch, name)
    check_equal("node_type", node["metadata"]["node_type"], "file")
    check_that("perms", all(type(allowed) is bool for allowed in node["perms"].values()), node["perms"], "yes or no")
    check_that("full_path", node["full_path"].endswith(f"/{name}"), node["full_path"], "a path that ends in the name")


def empty_batch_has_no_files(hub: Hub) -> None:
    page = hub.ask(200, "GET", "/v2/batches/{}/files", hub.new_batch())
    check_has(page, nodes=[], has_more=False)


def files_are_paged_without_loss(hub: Hub) -> None:
    batch, names = hub.new_batch(), [f"{number}.txt" for number in range(5)]
    for name in names:
        hub.put(batch, name)
    hub.eventually("files are in the list", lambda: len(hub.files(batch)) == len(names))
    pages = list(hub.pages(batch, 2))
    check_equal("names", sorted(node["name"] for page in pages for node in page["nodes"]), names)
    check_that("pages", all(len(page["nodes"]) <= 2 for page in pages), [len(p["nodes"]) for p in pages], "at most 2")
    check_equal("has_more of each page", [page["has_more"] for page in pages], [True] * (len(pages) - 1) + [False])


def deleted_file_is_gone(hub: Hub) -> None:
    batch = hub.new_batch()
    hub.put(batch, "a.txt")
    hub.put(batch, "b%41.txt")
    hub.ask(202, "DELETE", FILE, batch, "b%41.txt")
    hub.eventually("a deleted file is gone", lambda: [node["name"] for node in hub.files(batch)] == ["a.txt"])


CHECKS: dict[str, Check] = {
    "batch-without-a-name-is-400": lambda hub: hub.refused(hub.create_batch(), 400),
    "null-name-is-400": lambda hub: hub.refused(hub.create_batch(name=None), 400),
    "limit-that-is-no-number-is-400": lambda hub: hub.refuses([400], "GET", "/v2/batches", params={"limit": "many"}),
    "deleted-batch-has-a-job-that-ends": lambda hub: hub.job_ends(_delete(hub, hub.new_batch())),
    "batches-job-ends-too": lambda hub: hub.job_ends(_delete(hub, hub.new_batch()), "/v2/batches/jobs/{}"),
    "file-names-are-decoded-once": lambda hub: _check_names(hub, "50%.txt", "a%20b.txt", "%41.txt", "%2F.txt"),
    "file-names-may-be-in-any-script": lambda hub: _check_names(hub, "请求书.txt", "счёт.txt", "🧾.txt"),
    "unicode-forms-are-two-files": lambda hub: _check_names(hub, "\u00e9.txt", "e\u0301.txt"),
    "case-makes-two-files": lambda hub: _check_names(hub, "Scan.txt", "scan.TXT"),
    "file-name-with-a-slash-is-refused": lambda hub: hub.refuses(
        [400, 404], "PUT", FILE, hub.batch, "a/b.txt", data=b"x"
    ),
    "deleting-a-file-of-an-unknown-batch-is-404": lambda hub: hub.refuses([404], "DELETE", FILE, NO_BATCH, "a.txt"),
    "file-names-may-have-marks": lambda hub: _check_names(
        hub, "a b.txt", "#1?.txt", "x&y=z+w;,.txt", "it's (1) [2] {3}.txt", "...txt"
    ),
    "batches-are-listed-by-workspace": lambda hub: _check_filter(hub, "workspace", "workspace"),
    "batches-are-listed-by-username": lambda hub: _check_filter(hub, "username", "batch_owner"),
}
