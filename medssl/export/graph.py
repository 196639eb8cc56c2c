"""An ONNX graph: any number of pictures of one size, checked, and run beside the original."""

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.errors import RefusedError, UsageError
from medssl.export.plain import Made
from medssl.export.subject import Pictures, Proof, Subject, prove

GRAPH = "model.onnx"
OPSET = 18
MOST_BYTES = (1 << 31) - 1
"""A protocol buffer holds no more."""
PROVIDER = "CPUExecutionProvider"


def to_onnx(subject: Subject, channels: int, pictures: Pictures) -> Made:
    """Return the network as ONNX, weights inside.

    Raises:
        UsageError: the extra ``onnx`` is not installed.
        RefusedError: torch cannot write this network, or it is over 2 GiB, or onnxruntime answers
            otherwise.
    """
    _check_extra()
    module = _Whole(subject.network(channels), subject.head).eval()
    fed = pictures.tensor.expand(-1, channels, *pictures.tensor.shape[2:]).contiguous()
    data = _written(module, fed[:2], subject)
    proof = _run(data, fed, subject, pictures)
    lines = (
        "import numpy",
        "import onnxruntime",
        "",
        f'model = onnxruntime.InferenceSession("{GRAPH}", providers=["{PROVIDER}"])',
        f'answer = model.run(["{subject.output}"], {{"pixels": pixels}})[0]',
    )
    network = {
        "name": subject.card.encoder.name,
        "create": [lines[3]],
        "opset": OPSET,
        "graph_input": "pixels",
        "graph_output": subject.output,
        "batch": "dynamic: any N from 1",
    }
    library = f"onnx {version('onnx')}"
    return Made(GRAPH, data, library, network, lines, ("numpy", "onnxruntime"), proof)


class _Whole(nn.Module):
    """The network, and the head where there is one."""

    def __init__(self, net: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.net(pixels)
        return features if self.head is None else self.head(features)


def _check_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        words = f"{error.name} is not installed; --to onnx needs it: pip install 'medssl[onnx]'."
        raise UsageError(words, "E-EXTRA") from error


def _written(module: nn.Module, example: Tensor, subject: Subject) -> bytes:
    import onnx

    try:
        made: Any = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=[subject.output],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        name = subject.card.encoder.name
        words = f"{name}: torch cannot write this network as ONNX. Use --to safetensors instead."
        raise RefusedError(words, "E-ONNX") from error
    model = made.model_proto
    _forget(model)
    if model.ByteSize() > MOST_BYTES:
        gigabytes = model.ByteSize() / 2**30
        words = f"{gigabytes:.1f} GiB, and one ONNX file holds 2. Use --to safetensors instead."
        raise RefusedError(words, "E-ONNX")
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def _forget(message: Any) -> None:
    """Remove every note of the exporter: they quote source lines and paths of this machine."""
    for name in ("metadata_props", "doc_string"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for _, value in message.ListFields():
        for part in value if isinstance(value, list | tuple) or _repeated(value) else (value,):
            if hasattr(part, "ListFields"):
                _forget(part)


def _repeated(value: Any) -> bool:
    return hasattr(value, "add") and hasattr(value, "extend")


def _run(data: bytes, fed: Tensor, subject: Subject, pictures: Pictures) -> Proof:
    """Run the graph on all pictures together, and on the first alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=[PROVIDER])
    feeds = [fed.numpy(), fed[:1].numpy()]
    theirs = [np.asarray(session.run([subject.output], {"pixels": f})[0]) for f in feeds]
    ours = subject.answers(pictures.tensor)
    name = f"onnxruntime {version('onnxruntime')}"
    prove(ours[:1], theirs[1], pictures, name)
    return prove(ours, theirs[0], pictures, name)
