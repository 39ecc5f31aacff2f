from typing import Any, final

import numpy as np
from numpy.typing import NDArray

def activation_names() -> tuple[str, ...]: ...
def loss_names() -> tuple[str, ...]: ...
def optimizer_names() -> tuple[str, ...]: ...
def sampling_names() -> tuple[str, ...]: ...
def simd_levels() -> list[str]: ...
def simd_level() -> str: ...
def set_simd_level(name: str, origin: str = ...) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def may_overlap(a: NDArray[Any], b: NDArray[Any]) -> bool: ...
def find_unfit(array: NDArray[Any], dtype: np.dtype[Any]) -> tuple[int, int] | None: ...
def evaluate_function(name: str, x: NDArray[Any], out: NDArray[Any]) -> None: ...
def activation_forward(name: str, parameter: float, x: NDArray[Any], out: NDArray[Any]) -> None: ...
def activation_backward(
    name: str,
    parameter: float,
    dy: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    out: NDArray[Any],
) -> None: ...
def softmax_forward(x: NDArray[Any], out: NDArray[Any]) -> None: ...
def softmax_backward(dy: NDArray[Any], y: NDArray[Any], out: NDArray[Any]) -> None: ...
def dropout_mask(key: int, p: float, out: NDArray[Any]) -> None: ...
def dense_forward(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None, out: NDArray[Any]
) -> None: ...
def dense_backward(
    dy: NDArray[Any],
    x: NDArray[Any],
    weight: NDArray[Any],
    grad_weight: NDArray[Any],
    grad_bias: NDArray[Any] | None,
    dx: NDArray[Any] | None,
) -> None: ...
def loss_evaluate(
    name: str,
    parameter: float,
    reduction: str,
    prediction: NDArray[Any],
    target: NDArray[Any],
    sample_weight: NDArray[Any] | None,
    gradient: NDArray[Any] | None,
) -> float: ...
def loss_weigh(
    name: str,
    reduction: str,
    losses: NDArray[Any],
    sample_weight: NDArray[Any] | None,
    gradient: NDArray[Any] | None,
    k: int,
) -> float: ...
def optimizer_step(
    name: str,
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    slots: tuple[NDArray[Any], ...],
    hyper: tuple[float, ...],
    learning_rate: float,
    step: int,
) -> None: ...

@final
class Workspace:
    def __init__(self, plan: Plan, n_rows: int, training: bool) -> None: ...

@final
class Plan:
    def __init__(
        self,
        dtype: str,
        n_in: int,
        layers: list[tuple[Any, ...]],
        loss: tuple[Any, ...],
        called: Any = None,
    ) -> None: ...
    @property
    def n_in(self) -> int: ...
    @property
    def n_out(self) -> int: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def rows_kept(self) -> int: ...
    def predict(self, parameters: NDArray[Any], x: NDArray[Any], out: NDArray[Any]) -> None: ...
    def predict_plain(self, parameters: NDArray[Any], x: Any, out: Any) -> NDArray[Any] | None: ...
    def forward(
        self,
        parameters: NDArray[Any],
        x: NDArray[Any],
        out: NDArray[Any],
        training: bool,
        dropout_key: int,
    ) -> None: ...
    def backward(
        self,
        parameters: NDArray[Any],
        gradients: NDArray[Any],
        dy: NDArray[Any],
        dx: NDArray[Any] | None,
    ) -> None: ...
    def loss(
        self,
        parameters: NDArray[Any],
        x: NDArray[Any],
        target: NDArray[Any],
        weight: NDArray[Any] | None,
    ) -> float: ...
    def loss_and_gradient(
        self,
        parameters: NDArray[Any],
        x: NDArray[Any],
        target: NDArray[Any],
        weight: NDArray[Any] | None,
        gradients: NDArray[Any],
        dx: NDArray[Any] | None,
        training: bool,
        dropout_key: int,
    ) -> float: ...

@final
class Fit:
    def __init__(
        self,
        plan: Plan,
        *,
        data: tuple[NDArray[Any] | None, ...],
        validation: tuple[NDArray[Any] | None, ...] | None,
        parameters: NDArray[Any],
        gradients: NDArray[Any],
        generator: np.random.Generator,
        optimizer: str,
        slots: tuple[NDArray[Any], ...],
        hyper: tuple[float, ...],
        n_steps: int,
        gradient_clip: float,
        sampling: str,
        batch_size: int,
        order: NDArray[np.int64] | None,
        learning_rates: NDArray[np.float64],
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None,
        seconds: NDArray[np.float64],
    ) -> None: ...
    def train(self, stop_epoch: int, budget: float) -> bool: ...
    def position(self) -> tuple[dict[str, Any], NDArray[np.float64]]: ...
    def go_to(self, numbers: dict[str, Any], sums: NDArray[np.float64]) -> None: ...
    @property
    def diverged(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def n_steps(self) -> int: ...
