"""Reading answers off the wire."""

import pytest

from benchmarks.transcript import EndOfResponse, PeerError, Reply, reply

CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FRAME = b'data: {"choices":[{"text":" a"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":128,"completion_tokens":64}}\n\n'
WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n{"generated_text":"x","completion_tokens":64}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_the_first_token_of_a_stream_is_its_first_event_not_its_head() -> None:
    pieces = [(1.0, CHUNKED), (1.5, chunk(FRAME)), (2.0, chunk(FRAME)), (3.0, chunk(USAGE) + b"0\r\n\r\n")]
    assert reply(0.5, pieces) == Reply(tokens=64, ttft_seconds=1.0, seconds=2.5)


def test_a_comment_that_keeps_a_stream_alive_is_no_token() -> None:
    pieces = [(1.0, CHUNKED + chunk(b": ping\n\n")), (2.0, chunk(FRAME)), (3.0, chunk(USAGE) + b"0\r\n\r\n")]
    assert reply(0.0, pieces).ttft_seconds == 2.0


def test_an_answer_that_is_not_streamed_comes_whole() -> None:
    assert reply(1.0, [(4.0, WHOLE)]) == Reply(tokens=64, ttft_seconds=3.0, seconds=3.0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 429 Too Many Requests\r\n\r\n" + USAGE, id="refused"),
        pytest.param(CHUNKED + chunk(FRAME) + chunk(b'data: {"error": {}}\n\n') + chunk(USAGE), id="failed on the way"),
        pytest.param(CHUNKED + chunk(FRAME) + b"0\r\n\r\n", id="no usage"),
    ],
)
def test_an_answer_without_a_good_end_is_an_error(raw: bytes) -> None:
    with pytest.raises(PeerError):
        reply(0.0, [(1.0, raw)])


@pytest.mark.parametrize(
    "raw", [pytest.param(CHUNKED + chunk(FRAME) + b"0\r\n\r\n", id="chunks"), pytest.param(WHOLE[:-1], id="length")]
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_end_is_seen_however_the_bytes_are_cut(raw: bytes, size: int) -> None:
    end = EndOfResponse()
    ended = [end.after(raw[at : at + size]) for at in range(0, len(raw), size)]
    assert ended == [False] * (len(ended) - 1) + [True]
