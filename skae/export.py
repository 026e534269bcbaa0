"""ONNX: fitted estimators as graphs that other runtimes compute, scaling included.

The graph is traced from the very code that predicts; only the networks are put in as
torch modules, since the fast products have no counterpart in ONNX.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skae._anomaly.losses import LossScorer
from skae._data.scale import AffineScaler
from skae._estimators.base import BaseAutoencoder
from skae._files.container import replace
from skae._model.model import FARTHEST, Batch, Model
from skae._networks.factory import copied, has_stages
from skae._networks.modules import ModuleNetwork
from skae._runtime.device import computing, resolve_device
from skae._runtime.version import __version__

__all__ = ["to_onnx"]


# Versions of ONNX's operators that graphs are traced in: the latest, and the one that has the
# least to be rewritten for older ones; and the oldest that graphs are rewritten for.
_LATEST, _TRACED, _OLDEST = 20, 18, 17


def to_onnx(
    estimator: BaseAutoencoder | Pipeline,
    path: str | os.PathLike[str],
    method: str = "transform",
    *,
    opset_version: int | None = None,
) -> None:
    """Write what a method of a fitted estimator computes to an ONNX file.

    The input ``X`` is float32, of shape ``(n, *shape of a sample in the fit)``, for any
    number ``n`` of rows or images; NaN means missing. Scaling and its inverse, the
    loss, the calibration of a detector and its threshold are part of the graph.

    Parameters
    ----------
    estimator : one of the estimators of this package, or a Pipeline that ends with one
        Fitted. The other steps of a pipeline are converted by skl2onnx, which must be installed.
    path : str or path-like
        Where to; by custom it ends in ``.onnx``. An old file is replaced when the new
        one is complete.
    method : {"transform", "reconstruct", "score_samples"}, default="transform"
        The method to export, and the name of the output. "score_samples" of a detector has two
        more outputs, "decision_function" and "predict".
    opset_version : int, default=None
        Version of ONNX's operators, from 17 to 20, for runtimes that know no later one. By
        default it is 20, or as late as skl2onnx can if it has a part.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is another one, or a pipeline with steps that cannot be converted.
    ValueError
        If it has no such method or version, scales by a transformer of scikit-learn, or has a
        ``network`` of your own that cannot be traced.
    ImportError
        If onnxscript or onnxruntime is not installed (``pip install "skae[onnx]"``), or, for a
        pipeline, skl2onnx.
    RuntimeError
        If the graph, computed by onnxruntime, gives other results than the estimator.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.export import to_onnx
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(autoencoder, f"{folder}/iris.onnx")
    """
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    _check_estimator(estimator, last)
    check_is_fitted(last)
    _check_numbers(last)
    _check_method(last, method)
    if method == "reconstruct" and last._model.scaler.output_bounds is not None:
        raise ValueError(
            f"output_bounds={last.output_bounds!r} has no place in a graph. Fit with "
            f"output_bounds=None, and clip what the graph gives."
        )
    _check_version(opset_version)
    _check_extra()
    with computing(torch.device("cpu"), 0.0):
        graph = _Graph(_Modules(last._model), last, method).eval()
        example = graph.example(last._input.caller_shape)
        version = opset_version or _LATEST
        proto = _in_version(_traced(graph, example, max(version, _TRACED)), version)
    _check_result(proto.SerializeToString(), graph.outputs, last, example.numpy())
    shape = last._input.caller_shape
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        proto, shape = _behind_steps(proto, estimator, version)
    _describe(proto, last, method, shape)
    replace(Path(path), [proto.SerializeToString(deterministic=True)])


class _Modules(Model):
    """A copy, in float32 and on the CPU, whose networks are torch modules, a pair a member."""

    def __init__(self, model: Model):
        network = copied(model.network, device=resolve_device("cpu"), dtype=torch.float32)
        super().__init__(network, model.scaler, model.loss, model.n_features)
        self.pairs = [network.modules(k) for k in range(network.n_members)]

    def codes_of(self, batch: Batch) -> Tensor:
        values = self.given(batch)
        if isinstance(self.network, ModuleNetwork):
            return self.network.codes(values)[None]
        return torch.stack([encoder(values) for encoder, _ in self.pairs])

    def decoded(self, codes: Tensor) -> Tensor:
        if isinstance(self.network, ModuleNetwork):
            return self.network.outputs(codes[0])[None]
        return torch.stack([decoder(z) for (_, decoder), z in zip(self.pairs, codes, strict=True)])


class _Graph(nn.Module):
    """From rows or images to the outputs of a method."""

    def __init__(self, model: _Modules, estimator: Any, method: str):
        super().__init__()
        self.outputs: tuple[str, ...] = (method,)
        self._compute = getattr(self, f"_{method}")
        self._model, self._scorer = model, getattr(estimator, "_judge", LossScorer())
        self._offset = getattr(estimator, "offset_", None)
        self._typical = estimator._typical_score()
        if method == "score_samples" and self._offset is not None:
            self.outputs = (method, "decision_function", "predict")
        self.is_of_user = isinstance(model.network, ModuleNetwork) and not has_stages(model.network)
        self.pairs = nn.ModuleList(nn.ModuleList(pair) for pair in model.pairs)
        self.center, self.scale = _float32_scaling(model.scaler)
        unseen = model.scaler.unseen
        self.unseen = None if unseen is None else torch.from_numpy(unseen)
        # What is computed once is computed before the graph is traced.
        getattr(self._scorer, "rows", self._scorer).prepare()

    def example(self, shape: tuple[int, ...]) -> Tensor:
        """Rows such as those of the fit, with a missing cell."""
        rng = torch.Generator().manual_seed(0)
        rows = torch.randn(3, len(self.center), generator=rng) * self.scale + self.center
        rows[1, 0] = torch.nan
        return rows.view(-1, *shape)

    def forward(self, X: Tensor) -> Any:
        scaled = ((X.flatten(1) - self.center) / self.scale).clamp(-FARTHEST, FARTHEST)
        missing = scaled.isnan() if self.unseen is None else scaled.isnan() | self.unseen
        return self._compute(Batch(slice(None), scaled.masked_fill(missing, 0.0), ~missing), X)

    def _transform(self, batch: Batch, X: Tensor) -> Tensor:
        return self._model.codes_of(batch)[0]

    def _reconstruct(self, batch: Batch, X: Tensor) -> Tensor:
        rows = self._model.coded(batch).rows[0] * self.scale + self.center
        if self.unseen is not None:
            rows = rows.masked_fill(self.unseen, 0.0)
        if (limits := self._model.scaler.limits) is not None:
            rows = rows.clamp(*limits)
        return rows.reshape(X.shape)

    def _score_samples(self, batch: Batch, X: Tensor) -> Any:
        scores = -self._scorer.outlyingness(self._model.coded(batch)).double()
        scores = scores.where(~scores.isnan(), self._typical)
        if self._offset is None:
            return scores.float()
        decision = scores - self._offset
        return scores.float(), decision.float(), torch.where(decision < 0, -1, 1)


def _float32_scaling(scaler: Any) -> tuple[Tensor, Tensor]:
    """Center and scale of each feature."""
    if not isinstance(scaler, AffineScaler):
        raise ValueError(
            f"scaling={scaler.transformer!r} is code that ONNX has no place for. Fit with one of "
            f"the named scalings; or with scaling=None behind the transformer in a pipeline, and "
            f"convert that by skl2onnx."
        )
    center, scale = (torch.as_tensor(v).float() for v in (scaler.center, scaler.scale))
    if not (center.isfinite() & scale.isfinite() & (scale > 0)).all():
        raise ValueError(
            "X holds features whose center or scale is beyond float32, which the graph takes. "
            "Fit on data in other units."
        )
    return center, scale


def _check_estimator(estimator: Any, last: Any) -> None:
    if isinstance(last, BaseAutoencoder):
        return
    if last is estimator:
        raise TypeError(f"estimator={estimator!r} is no autoencoder of skae, nor a pipeline.")
    kinds = ", ".join(type(step).__name__ for _, step in estimator.steps)
    raise TypeError(
        f"The pipeline of {kinds} does not end with an autoencoder of skae. Convert that step and "
        f"those behind it by themselves, to_onnx(pipeline[:k], ...) and skl2onnx, and join the "
        f"graphs by onnx.compose.merge_models."
    )


def _check_numbers(estimator: Any) -> None:
    if estimator._table.categories:
        raise ValueError(
            f"estimator={estimator!r} was fitted on a table with categories, but a graph takes "
            f"numbers alone. Fit on numbers: on one column for each value, say."
        )


def _check_version(version: Any) -> None:
    if version is not None and version not in range(_OLDEST, _LATEST + 1):
        raise ValueError(
            f"opset_version={version!r} must be an integer from {_OLDEST} to {_LATEST}, or None."
        )


def _check_method(estimator: Any, method: str) -> None:
    methods = [m for m in ("transform", "reconstruct", "score_samples") if hasattr(estimator, m)]
    if getattr(estimator._model.network.spec, "variational", False):
        # Its score is a bound over draws, which the graph does not make.
        methods.remove("score_samples")
    if method not in methods:
        raise ValueError(
            f"method={method!r} is no method of {type(estimator).__name__} that can be exported. "
            f"Pass one of {', '.join(map(repr, methods))}."
        )


def _check_extra() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'to_onnx needs onnxscript and onnxruntime. Install them with: pip install "skae[onnx]"'
        ) from error


def _check_result(written: bytes, outputs: tuple[str, ...], estimator: Any, X: Any) -> None:
    """Compute the graph, and compare it with the estimator: exporters have bugs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    for name, found in zip(outputs, session.run(outputs, {"X": X}), strict=True):
        if name == "predict":  # which may differ where rounding decides
            continue
        with _quiet():
            expected = _plain(getattr(estimator, name)(X)).astype(np.float64)
        size = max(np.abs(expected).max(), 1e-30)
        difference = float(np.abs(found.reshape(expected.shape) - expected).max() / size)
        if not difference <= 1e-4:
            raise RuntimeError(
                f"The graph that torch {torch.__version__} made gives other results than the "
                f"estimator's {name}, off by {difference:.1e} of the largest. Update torch and "
                f"onnxscript."
            )


def _plain(result: Any) -> Any:
    """What a method returned, in whatever container, as an array."""
    if hasattr(result, "toarray"):
        result = result.toarray()
    return np.asarray(result)


def _traced(graph: _Graph, example: Tensor, version: int) -> Any:
    try:
        with _quiet():
            graph(example)  # What is computed once, and kept, is no part of the graph.
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["X"],
                output_names=list(graph.outputs),
                dynamic_shapes=({0: torch.export.Dim("n")},),
                opset_version=version,
                verbose=False,
            )
    except Exception as error:
        if not graph.is_of_user:
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"The modules of your network cannot be traced for ONNX: {reason} Write their forward "
            f"by torch operations whose shapes do not depend on the values."
        ) from error
    assert program is not None
    return program.model_proto


# What operators have had since version 18: attributes that say what older ones do anyway.
_SINCE_18 = {
    "antialias": 0,
    "keep_aspect_ratio_policy": b"stretch",
    "noop_with_empty_axes": 0,
}


def _in_version(proto: Any, version: int) -> Any:
    """The graph in an older version of the operators, if that is asked for.

    ONNX's own converter does not know this step for reductions, padding and resizing.
    """
    import onnx

    if version >= _TRACED:
        return proto
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "ReduceSum":  # It was ahead of the other reductions.
            continue
        if node.op_type.startswith("Reduce") and len(node.input) == 2:
            axes = constants[node.input.pop()].tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
        for attribute in list(node.attribute):
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name in _SINCE_18 and _SINCE_18[attribute.name] == value:
                node.attribute.remove(attribute)
    used = {name for node in proto.graph.node for name in node.input}
    for unused in [c for c in proto.graph.initializer if c.name not in used]:
        proto.graph.initializer.remove(unused)
    (opset,) = (opset for opset in proto.opset_import if opset.domain == "")
    opset.version, proto.ir_version = version, min(proto.ir_version, 8)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"opset_version={version} has no place for this network: {reason} Pass "
            f"opset_version={_TRACED} or a later one."
        ) from error
    return proto


def _behind_steps(proto: Any, pipeline: Pipeline, version: int) -> tuple[Any, tuple[int, ...]]:
    """The graph behind those of the pipeline's other steps, and the shape of its samples."""
    try:
        import onnx
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise ImportError(
            "to_onnx of a pipeline needs skl2onnx. Install it with: pip install skl2onnx"
        ) from error
    steps = pipeline[:-1]
    try:
        kinds = FloatTensorType([None, steps.n_features_in_])
        before = skl2onnx.to_onnx(
            steps, initial_types=[("X", kinds)], target_opset={"": version, "ai.onnx.ml": 3}
        )
    except Exception as error:
        names = ", ".join(f"{name} ({type(step).__name__})" for name, step in steps.steps)
        reason = str(error).strip().partition("\n")[0]
        raise TypeError(f"skl2onnx cannot convert the steps {names}: {reason}") from error
    before.ir_version = proto.ir_version
    output = before.graph.output[0].name
    before = onnx.compose.add_prefix(before, "steps_", rename_inputs=False)
    if output != "X":
        output = f"steps_{output}"
    inner = onnx.compose.add_prefix(proto, "skae_", rename_outputs=False)
    joined = onnx.compose.merge_models(before, inner, io_map=[(output, "skae_X")])
    versions = {opset.domain: opset.version for opset in joined.opset_import}
    del joined.opset_import[:]
    joined.opset_import.extend(onnx.helper.make_opsetid(*item) for item in versions.items())
    return joined, (steps.n_features_in_,)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on libraries that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _describe(proto: Any, estimator: BaseAutoencoder, method: str, shape: tuple[int, ...]) -> None:
    """Say what the graph is of, and nothing of where it was traced."""
    graph = proto.graph
    for part in (graph, *graph.input, *graph.output, *graph.value_info, *graph.node):
        part.ClearField("metadata_props")
    graph.name, proto.doc_string = f"{type(estimator).__name__}.{method}", ""
    proto.producer_name, proto.producer_version = "skae", __version__
    facts: dict[str, Any] = {
        "skae_version": __version__,
        "class": type(estimator).__name__,
        "method": method,
        "input_shape": list(shape),
    }
    if hasattr(estimator, "feature_names_in_"):
        facts["feature_names_in_"] = list(estimator.feature_names_in_)
    if hasattr(estimator, "offset_"):
        facts["offset_"] = float(estimator.offset_)
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
