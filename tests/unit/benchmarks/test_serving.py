"""The pure parts of the serving benchmark: what is counted, what is compared, and what is printed."""

import json
import struct

import pytest
from benchmarks.serving import forms, histogram, load, report, stages

ROWS = [{"x0": 1.5, "c0": "a"}, {"x0": None, "c0": "b"}]
PRINTED = {
    "seconds": 2.0,
    "sent": 5,
    "due": 0,
    "skipped": 0,
    "unfinished": 1,
    "all_sent": 6,
    "all_answered": 4,
    "lost": {"connect": 0, "closed": 1, "unreadable": 0},
    "cpu_seconds": 0.004,
    "statuses": {"200": 2, "429": 1, "503": 1},
    "retry_after": {"count": 1, "least": 1, "most": 1, "sum": 1},
    "latency": {"ok": [[10, 2]], "refused": [[5, 1]], "other": []},
    "service": {"ok": [[10, 2]], "refused": [[5, 1]], "other": []},
}


def test_histograms_of_several_rounds_add():
    both = histogram.Histogram.read([(10, 3)]) + histogram.Histogram.read([(10, 1), (300, 4)])
    assert both.count == 8
    assert both.quantile(0.5) == histogram.edge(10) / 1e6
    assert both.quantile(0.51) == histogram.edge(300) / 1e6


@pytest.mark.parametrize("nanoseconds", [1, 127, 128, 255, 256, 1_000, 123_456, 10**9, 3 * 10**10])
def test_the_edge_of_a_bucket_is_at_most_one_percent_above_what_fell_into_it(nanoseconds):
    shift = 0
    while nanoseconds >> shift > 255:
        shift += 1
    edge = histogram.edge(shift * 128 + (nanoseconds >> shift))
    assert nanoseconds <= edge <= nanoseconds * 1.01


def test_refusals_are_no_failures_and_whatever_else_went_wrong_is():
    answers = b"".join(struct.pack("<I", len(one)) + one for one in (b"first", b"", b"third"))
    result = load.read(json.dumps(PRINTED).encode(), answers)
    assert result.rate == 1.0
    assert result.failed == 3  # one 503, one connection closed, one without an answer
    assert result.tool_us == pytest.approx(1000)
    assert list(result.answers) == [b"first", b"", b"third"]


def answer(body: bytes, *headers: str) -> forms.Answer:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return forms.parse_answer("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def test_every_form_of_an_answer_gives_the_same_probabilities():
    tensor = {"name": "predict_proba", "shape": [2, 2], "datatype": "FP64"}
    head = json.dumps({"outputs": [tensor]}).encode()
    numbers = [0.25, 0.75, 0.5, 0.5]
    said = [
        forms.read_rows(
            answer(json.dumps({"rows": [{"predict_proba": {"1": 0.75}}, {"predict_proba": {"1": 0.5}}]}).encode())
        ),
        forms.read_tensor(answer(json.dumps({"outputs": [tensor | {"data": numbers}]}).encode())),
        forms.read_binary(answer(head + struct.pack("<4d", *numbers), f"Inference-Header-Content-Length: {len(head)}")),
        forms.read_pairs(answer(b'{"predictions": [[0.25, 0.75], [0.5, 0.5]]}')),
        forms.read_predictions(answer(b'{"predictions": [0.75, 0.5]}')),
    ]
    assert all(list(one) == [0.75, 0.5] for one in said)


def test_binary_tensors_have_the_bytes_that_their_header_names():
    body = forms.binary_body(ROWS)
    length = int(body.headers["Inference-Header-Content-Length"])
    inputs = json.loads(body.content[:length])["inputs"]
    assert sum(one["parameters"]["binary_data_size"] for one in inputs) == len(body.content) - length
    assert body.content.endswith(b"\x01\x00\x00\x00a\x01\x00\x00\x00b")


def test_a_wrong_answer_and_one_to_another_request_are_noticed():
    class Model:
        expected = (0.75, 0.5)

    def said(*numbers: float) -> bytes:
        body = json.dumps({"predictions": numbers}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    from benchmarks.serving.servers import wrong_answers

    def wrong(*answers: bytes) -> int:
        return wrong_answers(forms.HAND_WRITTEN, Model, [[0], [1]], answers)

    assert wrong(said(0.75), said(0.5)) == 0
    assert wrong(said(0.75), said(0.75)) == 1
    assert wrong(said(0.75, 0.5), b"") == 1
    assert wrong(said(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") == 2


def test_goals_are_printed_with_figure_ratio_and_verdict():
    found = report.Report(
        goals=[
            report.Goal("single", "compiled", 3000.0, "/s", 25.0, beside=100.0, explains="unused"),
            report.Goal("cold-start", "first answer", 2.0, "s", 1.5, at_least=False, explains="imports"),
        ],
        missing={"a peer": "it does not install"},
    )
    text = found.as_text()
    lines = [line.split() for line in text.splitlines()]
    assert ["single", "compiled", "3,000", "/s", "100", "30", "≥", "25", "yes"] in lines
    assert ["cold-start", "first", "answer", "2", "s", "≤", "1.5", "NO"] in lines
    assert "cold-start, first answer: imports" in text
    assert "unused" not in text
    assert "not measured: a peer: it does not install" in text
    assert [goal["met"] for goal in json.loads(found.as_json())["goals"]] == [True, False]


def test_stages_are_read_over_all_versions():
    text = (
        'modelyard_request_decode_seconds_sum{version="1"} 0.5\n'
        'modelyard_request_decode_seconds_count{version="1"} 500\n'
        'modelyard_request_decode_seconds_sum{version="2"} 0.5\n'
        'modelyard_request_decode_seconds_count{version="2"} 500\n'
    )
    assert stages.told({}, stages.read_stages(text)) == "mean us of a call: decode 1000"
