"""The names of the files in a run's folder."""

from pathlib import Path

RECIPE = "recipe.yaml"
"""What was asked. A folder with this file is a run."""
STATUS = "status.json"
"""Where the run stands, and which process executes it."""
ENVIRONMENT = "environment.json"
"""Versions, device, git commit."""
EVENTS = "events.jsonl"
"""Everything that happened (`engine.runs.events`)."""
LOG = "worker.log"
"""What the worker printed."""
HEARTBEAT = "heartbeat"
"""Touched while the worker lives."""
LOCK = "worker.lock"
"""Held by the process that executes the run or writes how it ended."""
RESERVE = ".reserve"
"""Disk space kept for a run's last event and status."""
ARCHITECTURE = "architecture.json"
"""The network's blocks and preprocessing."""
SPLIT = "split.json"
"""Which images, by content hash, were in which part."""
EXAMPLES = "examples"
"""A folder with a few test images and EXAMPLES_LIST, their true labels."""
EXAMPLES_LIST = "examples.json"
CHECKPOINTS = "checkpoints"
"""A folder (`engine.runs.checkpoint`)."""
KERAS = "final.keras"
"""The model with the best weights, float32; it takes pixels 0 to 255."""
LITERT = "inference.tflite"
"""The same for LiteRT; it returns probabilities, features and the feature map."""
HEAD = "head.npz"
"""The weights behind pooling, for explanations."""
MANIFEST = "manifest.json"
"""The SHA-256 of all files that a finished run keeps (`engine.host.manifest`)."""
EVALUATION = "evaluation.json"
"""Figures on the test and validation images."""
PREFLIGHT = "preflight.json"
"""What the preflight predicted before the run began."""
REFERENCE = "reference.npz"
"""The run's answers to its own images; thumbs.bin has their thumbnails."""
CONFIDENCE = "confidence.json"
"""How confident its answers can be (`engine.predict.confidence`)."""
EXPORTS = "exports"
"""Zips for other programs (`engine.exports.exports`)."""
STOP, PAUSE, KILL = "stop", "pause", "kill"
"""Empty files: what a user asked of the run."""

_CHANGING = {STATUS, LOG, HEARTBEAT, LOCK, CHECKPOINTS, MANIFEST, STOP, PAUSE, KILL}


def lasting(folder: Path) -> list[str]:
    """The files that a finished run keeps as they are, by their path in its folder, sorted: all but
    its status, its log, checkpoints, and what is half-written."""
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        str(path)
        for path in inside
        if path.parts[0] not in _CHANGING and not any(p.startswith(".") for p in path.parts)
    )
