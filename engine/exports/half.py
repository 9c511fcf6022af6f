"""Storing weights of a LiteRT file in float16 where the answers stay the same.

Heavy: imports TensorFlow. The converter's own float16 rounds every weight, and biases and the small
kernels of depthwise convolutions, which a whole channel hangs on, move answers most: probabilities
differed by two hundredths (docs/export.md). Large kernels hold most of the bytes and matter least, so
they are tried first, and each is taken that leaves the answers alone.
"""

from dataclasses import dataclass

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from engine.errors import GraftError
from engine.host.parallel import ordered_map
from engine.models.litert import Network

EXAMPLES = 100
"""Images on which the answers are compared while kernels are chosen."""
TARGET = 4e-4
"""Largest difference in probability on them. The certificate allows 1e-3 on up to five times as many, where
the largest was up to 2.2 times as large (docs/export.md)."""
TRIES = 24
"""At most so many kernels, the largest, are tried one by one: in MobileNetV2 0.35 they are nine tenths of
all weights."""
SMALLEST = 1000
"""Kernels of fewer values stay in float32: what they save is hardly more than their operator costs."""


@dataclass(frozen=True)
class Stored:
    """What a file holds in float16.

    Attributes:
        kernels: how many.
        share: of all weights, 0 to 1.
    """

    kernels: int
    share: float


def halve(path, pixels, report) -> Stored:
    """Stores kernels of a float32 file in float16: those that keep the answers.

    All at once if that keeps them; otherwise one after the other, largest first, each on top of those
    taken before. The file itself is asked each time. Answers are kept if all images keep their label and
    no probability moves by more than `TARGET`.

    Args:
        path: of a .tflite file in float32 with one output, probabilities; it is replaced.
        pixels: uint8 arrays (size, size, 3), images to compare on.
        report: called with (text, done, total); may raise to stop.

    Raises:
        GraftError: if not one of them can be stored so.
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
            "no weights of this model can be stored in float16 without changing its answers; choose "
            "float32"
        )
    path.write_bytes(_with_halves(whole, taken))
    total = sum(values.size for values in constants.values())
    return Stored(len(taken), sum(constants[place].size for place in taken) / total)


def _constants(model) -> dict[int, np.ndarray]:
    """The float32 constants of a model's graph, by their tensors' places; those that share bytes are
    left out."""
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
    """Whether they are a kernel that is large enough, and float16 reaches as far as they do."""
    within = np.abs(values).max(initial=0) <= np.finfo(np.float16).max
    return values.ndim > 1 and values.size >= SMALLEST and bool(within)


def _with_halves(content: bytes, places) -> bytes:
    """A file in which the constants in these places are float16.

    Each gets an operator that makes it float32 again before anything else is computed, as the converter
    writes it; the runtime does that once, when it loads the file.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph, constants = model.subgraphs[0], _constants(model)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first that takes float16
    model.operatorCodes.append(code)
    operators = []
    for place in places:
        tensor, half = graph.tensors[place], schema.TensorT()
        half.name, half.shape = tensor.name + b"_float16", tensor.shape
        half.type, half.buffer = schema.TensorType.FLOAT16, tensor.buffer
        rounded = constants[place].astype("<f2")
        model.buffers[tensor.buffer].data = np.frombuffer(rounded.tobytes(), np.uint8)
        tensor.buffer = 0  # by the format's rules the empty one: no constant any more
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors)], [place]
        graph.tensors.append(half)
        operators.append(operator)
    graph.operators = operators + graph.operators
    return flatbuffer_utils.convert_object_to_bytearray(model)


def _answers(path, pixels) -> np.ndarray:
    """Probabilities of a file, float32 array (n, classes)."""
    network = Network(path)
    return np.array([found[0] for found in ordered_map(network, pixels, network.threads)])
