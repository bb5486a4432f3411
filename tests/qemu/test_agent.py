"""The guest agent's client, against an agent of our own: what it says when the other end misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from virtsnap.model.errors import AgentCommandFailed
from virtsnap.qemu import agent
from virtsnap.qemu.paths import socket_address

Answer = Callable[[dict[str, Any]], bytes]


def returns(value: object) -> bytes:
    return json.dumps({"return": value}).encode() + b"\n"


def refuses(class_: str, text: str) -> bytes:
    return json.dumps({"error": {"class": class_, "desc": text}}).encode() + b"\n"


class FakeAgent:
    """Answers guest-sync-delimited as it should, after `before`; everything else by `answers`."""

    def __init__(self, path: Path, answers: dict[str, bytes | None], before: bytes = b"") -> None:
        self.path = path
        self.heard: list[str] = []
        self.raw = b""
        self._answers = answers
        self._before = before

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.raw += line
            message = json.loads(line.rpartition(b"\xff")[2])
            command = message["execute"]
            self.heard.append(command)
            if command in self._answers:
                answer = self._answers[command]
                if answer is None:
                    break
                writer.write(answer)
            elif command == "guest-sync-delimited":
                writer.write(self._before + b"\xff" + returns(message["arguments"]["id"]))
        writer.close()


@asynccontextmanager
async def serving(
    folder: Path, answers: dict[str, bytes | None], before: bytes = b""
) -> AsyncIterator[FakeAgent]:
    fake = FakeAgent(folder / "agent", answers, before)
    with socket_address(str(fake.path)) as address:
        server = await asyncio.start_unix_server(fake.serve, address)
    async with server:
        yield fake


async def test_freeze_and_thaw(tmp_path: Path) -> None:
    answers: dict[str, bytes | None] = {
        "guest-fsfreeze-freeze": returns(3),
        "guest-fsfreeze-status": returns("frozen"),
        "guest-fsfreeze-thaw": returns(3),
    }
    async with serving(tmp_path, answers) as fake:
        assert await agent.freeze(str(fake.path)) == 3
        assert await agent.is_frozen(str(fake.path))
        assert await agent.thaw(str(fake.path)) == 3
        assert fake.raw.startswith(b'\xff{"execute": "guest-sync-delimited"')


async def test_what_is_not_frozen_is_not_thawed(tmp_path: Path) -> None:
    async with serving(tmp_path, {"guest-fsfreeze-status": returns("thawed")}) as fake:
        assert await agent.thaw(str(fake.path)) == 0
        assert fake.heard == ["guest-sync-delimited", "guest-fsfreeze-status"]


async def test_answers_to_somebody_else_are_passed_over(tmp_path: Path) -> None:
    old = returns("frozen") + refuses("GenericError", "JSON parse error") + b"\xff" + returns(17) + b'{"ret'
    async with serving(tmp_path, {"guest-fsfreeze-status": returns("thawed")}, old) as fake:
        assert not await agent.is_frozen(str(fake.path))


async def test_a_socket_with_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    async with serving(folder, {"guest-fsfreeze-status": returns("thawed")}) as fake:
        assert not await agent.is_frozen(str(fake.path))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (refuses("GenericError", "no such thing"), "no such thing"),
        (refuses("CommandNotFound", "The command x has not been found"), "The command x has not been found"),
    ],
)
async def test_a_refusal(tmp_path: Path, answer: bytes, text: str) -> None:
    async with serving(tmp_path, {"guest-fsfreeze-freeze": answer}) as fake:
        with pytest.raises(AgentCommandFailed) as caught:
            await agent.freeze(str(fake.path))
    whole = (
        f"guest agent command failed: unable to execute QEMU agent command 'guest-fsfreeze-freeze': {text}"
    )
    assert str(caught.value) == whole


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(agent.AgentUnresponsive) as caught:
        await agent.freeze(str(tmp_path / "agent"))
    assert str(caught.value) == "Guest agent is not responding: QEMU guest agent is not connected"


async def test_it_goes_away(tmp_path: Path) -> None:
    async with serving(tmp_path, {"guest-fsfreeze-freeze": None}) as fake:
        with pytest.raises(agent.AgentUnresponsive) as caught:
            await agent.freeze(str(fake.path))
    said = "Guest agent is not responding: Guest agent disappeared while executing command"
    assert str(caught.value) == said


@pytest.mark.parametrize("answer", [b"\n", b"[]\n", b"{}\n", b"\x00\xff\xfe\n"])
async def test_no_answer_at_all(tmp_path: Path, answer: bytes) -> None:
    async with serving(tmp_path, {"guest-fsfreeze-freeze": answer}) as fake:
        with pytest.raises(agent.AgentUnresponsive, match="no answer"):
            await agent.freeze(str(fake.path))


async def test_an_agent_that_is_busy_is_told_to_thaw_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path, {"guest-sync-delimited": b""}) as fake:
        with pytest.raises(agent.AgentUnresponsive, match="Guest agent not available for now"):
            await agent.thaw(str(fake.path), timeout=0.05)
        assert fake.heard == ["guest-sync-delimited", "guest-fsfreeze-thaw"]
