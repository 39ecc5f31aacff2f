"""Small neural networks from NumPy arrays: trained in C, with every gradient proven."""

import os as _os

from bpcore import _core, functions
from bpcore._core import simd_level, simd_levels
from bpcore.callbacks import Checkpoint, EarlyStopping, GradientNorms
from bpcore.checkpoint import load
from bpcore.customloss import CustomLoss
from bpcore.diagnose import Explanation, Mistake, explain_gradients
from bpcore.errors import (
    DeadUnitsWarning,
    DivergenceError,
    DTypeError,
    ModelFileError,
    SaturationWarning,
    ShapeError,
    StalledWarning,
    UnscaledInputWarning,
)
from bpcore.gradcheck import GradientReport, check_gradients
from bpcore.healthreport import HealthReport
from bpcore.history import History
from bpcore.layers import (
    ELU,
    GELU,
    Dense,
    Dropout,
    Exp,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from bpcore.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from bpcore.network import Network, mlp
from bpcore.optimizers import SGD, Adam, AdamW, RMSProp, Rprop
from bpcore.schedules import CosineDecay, ExponentialDecay, StepDecay
from bpcore.threads import from_environment as threads_from_environment
from bpcore.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

if _os.environ.get("BPCORE_SIMD"):
    _core.set_simd_level(_os.environ["BPCORE_SIMD"], "BPCORE_SIMD")
if _os.environ.get("BPCORE_NUM_THREADS"):
    threads_from_environment(_os.environ["BPCORE_NUM_THREADS"])

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "CategoricalCrossEntropy",
    "Checkpoint",
    "CosineDecay",
    "CustomLoss",
    "DTypeError",
    "DeadUnitsWarning",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Exp",
    "Explanation",
    "ExponentialDecay",
    "GradientNorms",
    "GradientReport",
    "HealthReport",
    "History",
    "Huber",
    "Identity",
    "LeakyReLU",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Mistake",
    "ModelFileError",
    "Network",
    "Poisson",
    "Quantile",
    "RMSProp",
    "ReLU",
    "Rprop",
    "SaturationWarning",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StalledWarning",
    "StepDecay",
    "Tanh",
    "UnscaledInputWarning",
    "check_gradients",
    "explain_gradients",
    "functions",
    "get_num_threads",
    "load",
    "mlp",
    "set_num_threads",
    "simd_level",
    "simd_levels",
]
