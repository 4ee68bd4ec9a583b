"""Multipart uploads of large files."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.auth import context_of
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import check_name, read_body
from fake_aihub.contract.shapes import is_digits
from fake_aihub.world.entities import ApiError, Session


async def open_session(service: Service, request: Request) -> Response:
    """POST /v2/batches/multipart-upload"""
    given = await read_body(service, request)
    batch = service.world.get_batch(context_of(request), given["batch_id"])
    session = service.world.open_session(
        context=batch.context,
        batch_id=batch.id,
        name=check_name(given["filename"]),
        size=int(str(given["file_size"])[:18]),
        part_size=service.part_size,
    )
    made = answer(201, {"session_id": session.id, "part_size": session.part_size})
    made.headers["Location"] = f"{str(request.url).split('?')[0]}/sessions/{session.id}"
    return made


def _find_session(service: Service, request: Request) -> Session:
    session = service.world.sessions.get(request.path_params["session_id"])
    if session is None or session.context != context_of(request):
        raise ApiError(404, "The upload session does not exist.")
    return session


async def put_part(service: Service, request: Request) -> Response:
    """PUT /v2/batches/multipart-upload/sessions/{session_id}/parts/{part_num}"""
    session, text = _find_session(service, request), request.path_params["part_num"]
    if not is_digits(text) or int(text[:18]) < 1:
        raise ApiError(400, "Part numbers start at 1.")
    number = int(text[:18])
    digest, size = await service.world.blobs.store(request.stream())
    wanted = min(session.part_size, session.size - (number - 1) * session.part_size)
    if not 0 < size == wanted:  # reject parts after the last one, even empty ones
        raise ApiError(400, f"Part {number} has {size} bytes, expected {max(wanted, 0)}.")
    part_id = service.world.put_part(_find_session(service, request).id, number, digest, size)
    return answer(201, {"part_id": part_id, "part_num": number})


async def end_session(service: Service, request: Request) -> Response:
    """POST /v2/batches/multipart-upload/sessions/{session_id}"""
    session = _find_session(service, request)
    given = await read_body(service, request)
    if given["action"] == "commit":
        _commit(service, session, given.get("parts", []))
    service.world.end_session(session.id)
    return Response(status_code=201)


def _commit(service: Service, session: Session, parts: list[object]) -> None:
    count = -(-session.size // session.part_size)
    # Iterate over the uploaded parts, not up to the count: file_size may be 10**17.
    uploaded = sorted((number, part_id) for number, (part_id, _, _) in session.parts.items() if number <= count)
    wanted = [{"part_num": number, "part_id": part_id} for number, part_id in uploaded]
    if len(wanted) != count or parts != wanted:
        raise ApiError(400, f"The parts must be all {count} parts of the file, in order.")
    batch = service.world.get_batch(session.context, session.batch_id)
    digest, size = service.world.blobs.join([session.parts[number][1] for number in range(1, count + 1)])
    service.world.put_file(batch.id, session.name, digest, size)
