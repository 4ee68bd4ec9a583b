"""Files in connected drives: one tree per context. The paths of files imply the folders."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fake_aihub.api.auth import context_of
from fake_aihub.api.jobs import job_url
from fake_aihub.api.service import Service
from fake_aihub.world.entities import ApiError, File

BINARY = "application/octet-stream"
MAX_PATH = 4096
MAX_SEGMENT = 255
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")
# The description shows both forms: {retries:3,backoff-seconds:5} and {'retries': 3, 'backoff-seconds': 5}.
RETRY = re.compile(
    r"""\{\s*['"]?retries['"]?\s*:\s*(\d{1,4})\s*,\s*['"]?backoff-seconds['"]?\s*:\s*(\d{1,4}(?:\.\d+)?)\s*\}"""
)
PDF_PATH = re.compile(r"/fake/processed/([0-9a-f]{16})-[0-9]{1,6}\.pdf")
PDF = b"""%%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842]>> endobj
trailer <</Root 1 0 R>>
%%%s
%%%%EOF
"""
MAX_RETRY_S = 60.0  # a fake that delays a response for longer looks dead


def normalise(path: str) -> str:
    """Return a normalised path, with a leading slash and no trailing slash. Raises ApiError 400."""
    inner = path.removeprefix("/").removesuffix("/")
    segments = inner.split("/")
    if len(inner) > MAX_PATH or any(not segment or len(segment) > MAX_SEGMENT for segment in segments):
        raise ApiError(400, "The path has an empty segment or is too long.")
    if "\0" in inner or {".", ".."} & set(segments):
        raise ApiError(400, "The path has a segment that is not a valid file or folder name.")
    return f"/{inner}"


def check_drive(path: str) -> str:
    """Check that a path is below a drive. Raises ApiError 400."""
    segments = path.split("/")
    if len(segments) < 6 or segments[3] != "fs":
        raise ApiError(400, "The path must be /<organisation>/<workspace>/fs/<drive>/<folder or file>.")
    return path


async def read_file(service: Service, request: Request) -> Response:
    """GET /v2/files/{path}"""
    file = await _find_node(service, request)
    if (file is None) != (request.query_params["expect-node-type"] == "folder"):
        raise ApiError(404, "The path has another type than expected.")
    if file is None:
        raise ApiError(501, "Reading a folder is not documented.")
    start, end = 0, file.size
    headers = {"Content-Type": BINARY}
    if asked := request.headers.get("Range"):
        start, end = _read_range(asked, file.size)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(_stream(service, file, start, end), 206 if asked else 200, headers)


async def _find_node(service: Service, request: Request) -> File | None:
    """Return a file, or None for a folder. Retry a missing path as IB-Retry-Config says. Raises ApiError 404."""
    context, path = context_of(request), normalise(request.path_params["path"])
    retries, backoff_s = _read_retry(request.headers.get("IB-Retry-Config"))
    for _ in range(retries):
        try:
            return _get_node(service, context, path)
        except ApiError:
            await asyncio.sleep(backoff_s)
    return _get_node(service, context, path)


def _get_node(service: Service, context: str, path: str) -> File | None:
    return _find_pdf(service, context, path) or service.world.get_node(context, path)


def _find_pdf(service: Service, context: str, path: str) -> File | None:
    """Return the PDF that a run generated at a path, if its output was not deleted."""
    match = PDF_PATH.fullmatch(path)
    for run in service.world.runs.values() if match else ():
        config = (run.request.get("settings") or {}).get("runtime_config") or {}
        if run.context == context and run.has_output and config.get("generate_post_process_pdf") is True:
            for file in run.files:
                if match and file.digest.startswith(match[1]):
                    body = PDF % path.encode()
                    return File(path.rpartition("/")[2], service.world.blobs.put(body), len(body), file.modified_s)
    return None


def _read_retry(text: str | None) -> tuple[int, float]:
    if text is None:
        return 0, 0.0
    match = RETRY.fullmatch(text.strip())
    if match is None or int(match[1]) * float(match[2]) > MAX_RETRY_S:
        raise ApiError(
            400, "IB-Retry-Config must be like {retries:3,backoff-seconds:5}, and at most a minute in total."
        )
    return int(match[1]), float(match[2])


async def _stream(service: Service, file: File, start: int, end: int) -> AsyncIterator[bytes]:
    for chunk in service.world.blobs.stream(file.digest, start, end):
        yield chunk


def _read_range(text: str, size: int) -> tuple[int, int]:
    """Return the start and the exclusive end of a range."""
    match = RANGE.fullmatch(text.strip())
    if match is None:
        raise ApiError(400, "Range must be a single byte range such as bytes=0-4.")
    start, end = int(match[1]), min(size, int(match[2] or size) + 1)
    if start >= end:
        raise ApiError(416, "The range is outside of the file.", {"Content-Range": f"bytes */{size}"})
    return start, end


async def write_file(service: Service, request: Request) -> Response:
    """PUT /v2/files/{path}"""
    context, path = context_of(request), check_drive(normalise(request.path_params["path"]))
    condition = request.headers.get("If-None-Match")
    if condition not in (None, "*"):
        raise ApiError(400, "If-None-Match must be *.", {"X-Fake-Unsupported": "If-None-Match"})
    digest, size = await service.world.blobs.store(request.stream())
    if condition and path in service.world.trees.get(context, {}):
        raise ApiError(412, "A file exists at this path.")
    service.world.write_node(context, path, digest, size)
    if condition is None:
        return Response(status_code=204)
    location = f"{str(request.url).partition('/v2/')[0]}/v2/files{quote(path)}"
    return Response(status_code=201, headers={"Location": location})


async def get_metadata(service: Service, request: Request) -> Response:
    """HEAD /v2/files/{path}"""
    file = await _find_node(service, request)
    if file is None:
        folder = Response(headers={"Content-Type": "application/json"})
        del folder.headers["Content-Length"]
        return folder
    modified = datetime.fromtimestamp(file.modified_s, UTC).isoformat().replace("+00:00", "Z")
    headers = {"Content-Type": BINARY, "Content-Length": str(file.size), "last-modified": modified}
    return Response(headers=headers)


async def delete_node(service: Service, request: Request) -> Response:
    """DELETE /v2/files/{path}"""
    job = service.world.delete_node(context_of(request), normalise(request.path_params["path"]))
    return Response(status_code=202, headers={"Location": job_url(request, job)})
