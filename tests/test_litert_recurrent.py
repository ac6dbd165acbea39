from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, assert_same, kinds

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _recurrent(net: Net, op: str, *states: str, size: int = 3, **attributes: Any) -> str:
    """Over x, whose batch is ONNX's first axis: exporters transpose it so."""
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op] * 4
    data = net.add("Transpose", "x", perm=[1, 0, 2])
    parameters = [
        net.weights(ways, rows, size),
        net.weights(ways, rows, 4),
        net.weights(ways, 2 * rows),
    ]
    outputs = 3 if op == "LSTM" else 2
    return net.add(op, data, *parameters, *states, hidden_size=4, outputs=outputs, **attributes)


def _all_outputs(net: Net, op: str, name: str) -> list[str]:
    sequence = net.add("Transpose", name, perm=[2, 0, 1, 3])
    rest = [f"{name}.{at}" for at in range(1, 3 if op == "LSTM" else 2)]
    return [sequence, *(net.add("Transpose", one, perm=[1, 0, 2]) for one in rest)]


@pytest.mark.parametrize("op", sorted(GATES))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_all_outputs_are_those_of_onnx_runtime_for_any_batch(op: str, direction: str) -> None:
    net = Net({"x": [6, 3]})
    made = _recurrent(net, op, direction=direction)
    lowering = assert_same(net, *_all_outputs(net, op, made))
    assert lowering.batch is None
    assert not any("SEQUENCE" in kind for kind in kinds(lowering))


@pytest.mark.parametrize("op", sorted(GATES))
def test_initial_states_may_be_computed(op: str) -> None:
    net = Net({"x": [5, 3], "h": [2, 4], "c": [2, 4]})
    states = [net.add("Transpose", name, perm=[1, 0, 2]) for name in "hc"]
    given = ["", *(states if op == "LSTM" else states[:1])]
    made = _recurrent(net, op, *given, direction="bidirectional")
    extra = [] if op == "LSTM" else [net.add("Relu", "c")]
    assert_same(net, *_all_outputs(net, op, made), *extra)


@pytest.mark.parametrize("op", sorted(GATES))
def test_sequences_may_end_early(op: str) -> None:
    net = Net({"x": [5, 3]}, batch=3)
    lengths = net.constant(np.array([5, 2, 3], np.int32))
    made = _recurrent(net, op, lengths, direction="bidirectional")
    assert_same(net, *_all_outputs(net, op, made), batches=[3])


def test_a_reset_gate_may_come_after_the_product() -> None:
    net = Net({"x": [5, 3]})
    made = _recurrent(net, "GRU", linear_before_reset=1)
    assert_same(net, *_all_outputs(net, "GRU", made))


def test_cells_may_be_stacked() -> None:
    net = Net({"x": [5, 3]})
    first = net.add("Squeeze", _recurrent(net, "LSTM"), net.constant(np.array([1])))
    parameters = [net.weights(1, 16, 4), net.weights(1, 16, 4)]
    net.add("LSTM", first, *parameters, hidden_size=4, outputs=3)
    last = net.nodes[-1].output[1]
    assert_same(net, net.add("Transpose", last, perm=[1, 0, 2]))


def test_a_second_run_begins_anew() -> None:
    net = Net({"x": [5, 3]})
    lowering = lower_graph(net.model(net.add("Relu", _recurrent(net, "LSTM"))))
    feed = net.feed(1)
    interpreter = Interpreter(model_content=lowering.content)
    interpreter.allocate_tensors()
    results = []
    for _ in range(2):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], feed["x"])
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"clip": 1.0}, "attribute clip"),
        ({"input_forget": 1}, "couples"),
        ({"activations": ["Affine", "Tanh", "Tanh"]}, "Affine"),
    ],
)
def test_what_no_exporter_writes_is_refused(attributes: dict[str, Any], reason: str) -> None:
    net = Net({"x": [5, 3]})
    with pytest.raises(RefusedError, match=rf"LSTM.*{reason}"):
        lower_graph(net.model(_recurrent(net, "LSTM", **attributes)))
