"""Runs a converted network in LiteRT, without TensorFlow, for predictions and feature passes."""

from __future__ import annotations

import re
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from engine.host.parallel import cores


class Network:
    """A converted network that may be called from several threads at once.

    A one-thread interpreter for each calling thread is faster than one with many threads, and its
    results do not depend on the number of cores.

    Args:
        model: path of a .tflite file that takes one image (1, size, size, 3), float32 0 to 255.
        threads: number of calls served at once; None for one per core.

    Raises:
        ValueError or RuntimeError: if LiteRT cannot run the file.
    """

    def __init__(self, model: Path, threads: int | None = None):
        from ai_edge_litert.interpreter import Interpreter

        self.threads = threads or cores()
        self._idle: SimpleQueue[Any] = SimpleQueue()
        content = model.read_bytes()
        for _ in range(self.threads):
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
            self._idle.put(interpreter)
        self._input = interpreter.get_input_details()[0]["index"]
        outputs = sorted(interpreter.get_output_details(), key=lambda d: _place(d["name"]))
        self._outputs = [detail["index"] for detail in outputs]

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Runs the network on one image.

        Args:
            pixels: uint8 or float array (size, size, 3), 0 to 255.

        Returns:
            The outputs, float32 arrays without a batch axis.
        """
        interpreter = self._idle.get()
        try:
            interpreter.set_tensor(
                self._input, np.ascontiguousarray(pixels[None], dtype=np.float32)
            )
            interpreter.invoke()
            return [interpreter.get_tensor(index)[0] for index in self._outputs]
        finally:
            self._idle.put(interpreter)


def _place(name: str) -> int:
    """An output's place among those of the Keras model: names are Identity, Identity_1 … (in files
    of Keras' own export StatefulPartitionedCall_1:0, :1 …)."""
    found = re.search(r"^Identity_(\d+)$|:(\d+)$", name)
    return int(found[1] or found[2]) if found else 0
