"""Storing weights of a LiteRT file in float16 where the answers stay the same.

Heavy: imports TensorFlow. The converter's own float16 rounds every weight. That changed
probabilities by up to 0.02, mostly because of biases and the small kernels of depthwise
convolutions, each of which affects a whole channel (docs/export.md). Large kernels hold most of the
bytes and matter least. So they are tried first, and those that keep the answers are stored in
float16.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from engine.errors import GraftError
from engine.host.background import Report
from engine.host.parallel import ordered_map
from engine.models.litert import Network

EXAMPLES = 100
"""Images on which the answers are compared while kernels are chosen."""
TARGET = 4e-4
"""Maximum difference in any probability on these images. The certificate allows 1e-3 on up to five
times as many, where the measured maximum was up to 2.2 times as large (docs/export.md)."""
TRIES = 24
"""At most the 24 largest kernels are tried one by one: in MobileNetV2 0.35 they hold 90% of all
weights."""
SMALLEST = 1000
"""Kernels with fewer values stay in float32: they would save little more than their extra operator
takes."""


@dataclass(frozen=True)
class Stored:
    """What a file stores in float16.

    Attributes:
        kernels: their number.
        share: their share of all weights, 0 to 1.
    """

    kernels: int
    share: float


def halve(path: Path, pixels: list[np.ndarray], report: Report) -> Stored:
    """Stores those kernels of a float32 file in float16 that keep the answers.

    It tries all kernels at once. If that changes answers, it tries them one after another, largest
    first, each together with those already stored. Answers are kept if no label changes and no
    probability moves by more than `TARGET`; each try runs the file itself.

    Args:
        path: a .tflite file in float32 with one output, probabilities; it is replaced.
        pixels: uint8 arrays (size, size, 3), images to compare on.
        report: called with (text, done, total); may raise to stop.

    Raises:
        GraftError: if no kernel keeps the answers.
    """
    whole = path.read_bytes()
    constants = _constants(flatbuffer_utils.read_model_from_bytearray(bytearray(whole)))
    kernels = [place for place, values in constants.items() if _may_be_half(values)]
    kernels.sort(key=lambda place: -constants[place].size)
    before = _answers(path, pixels)

    def keeps_answers(places):
        path.write_bytes(_with_halves(whole, places))
        after = _answers(path, pixels)
        same = (after.argmax(1) == before.argmax(1)).all()
        return bool(same) and np.abs(after - before).max() <= TARGET

    report("Choosing weights to store in float16")
    taken = kernels if keeps_answers(kernels) else []
    if not taken:
        for done, place in enumerate(largest := kernels[:TRIES]):
            report("Choosing weights to store in float16", done, len(largest))
            if keeps_answers([*taken, place]):
                taken.append(place)
    if not taken:
        raise GraftError(
            "no weights of this model can be stored in float16 without changing its answers; "
            "choose float32"
        )
    path.write_bytes(_with_halves(whole, taken))
    total = sum(values.size for values in constants.values())
    return Stored(len(taken), sum(constants[place].size for place in taken) / total)


def _constants(model) -> dict[int, np.ndarray]:
    """A model's float32 constants by tensor index, without those that share their bytes."""
    tensors = model.subgraphs[0].tensors
    places = [tensor.buffer for graph in model.subgraphs for tensor in graph.tensors]
    return {
        i: np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape)
        for i, tensor in enumerate(tensors)
        if tensor.type == schema.TensorType.FLOAT32
        and model.buffers[tensor.buffer].data is not None
        and places.count(tensor.buffer) == 1
    }


def _may_be_half(values) -> bool:
    """Whether these are a kernel that is large enough and within the range of float16."""
    within = np.abs(values).max(initial=0) <= np.finfo(np.float16).max
    return values.ndim > 1 and values.size >= SMALLEST and bool(within)


def _with_halves(content: bytes, places) -> bytes:
    """The file with the constants of these tensors in float16.

    Like the converter, it adds an operator for each that makes it float32 again before anything
    else is computed; the runtime does this once, when it loads the file.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph, constants = model.subgraphs[0], _constants(model)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first version that takes float16
    model.operatorCodes.append(code)
    operators = []
    for place in places:
        tensor, half = graph.tensors[place], schema.TensorT()
        half.name, half.shape = tensor.name + b"_float16", tensor.shape
        half.type, half.buffer = schema.TensorType.FLOAT16, tensor.buffer
        rounded = constants[place].astype("<f2")
        model.buffers[tensor.buffer].data = np.frombuffer(rounded.tobytes(), np.uint8)
        tensor.buffer = 0  # the format's empty buffer: the tensor is no longer a constant
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors)], [place]
        graph.tensors.append(half)
        operators.append(operator)
    graph.operators = operators + graph.operators
    return flatbuffer_utils.convert_object_to_bytearray(model)


def _answers(path, pixels) -> np.ndarray:
    """A file's probabilities, float32 array (n, classes)."""
    network = Network(path)
    return np.array([found[0] for found in ordered_map(network, pixels, network.threads)])
