"""Small neural networks from NumPy arrays: trained in C, with every gradient proven."""

import os as _os

from bpcore import _core, functions
from bpcore._core import get_num_threads, set_num_threads, simd_level, simd_levels
from bpcore.callbacks import EarlyStopping, GradientNorms
from bpcore.checkpoint import load
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
from bpcore.history import History
from bpcore.layers import (
    ELU,
    GELU,
    Dense,
    Dropout,
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
)
from bpcore.network import Network, mlp
from bpcore.optimizers import SGD, Adam, AdamW, RMSProp, Rprop
from bpcore.schedules import CosineDecay, ExponentialDecay, StepDecay

__version__ = "0.1.0"

if "BPCORE_SIMD" in _os.environ:
    _core.set_simd_level(_os.environ["BPCORE_SIMD"], "BPCORE_SIMD")
