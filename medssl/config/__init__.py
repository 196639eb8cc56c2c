"""Every setting of the house, torch-free, one page per verb. The sentence under a field is its help."""

from medssl.config.base import MAX_SEED, LabelText, Precision, Settings
from medssl.config.chain import ChainConfig
from medssl.config.decoding import DecodeConfig
from medssl.config.evaluation import EvaluateConfig, Group, Month
from medssl.config.finetuning import FinetuneConfig, FullConfig
from medssl.config.methods import (
    MethodConfig,
    MICLeConfig,
    NextSliceConfig,
    PairSettings,
    SimCLRConfig,
    SliceOrderConfig,
)
from medssl.config.pretraining import (
    Duration,
    EncoderConfig,
    ForeignConfig,
    LogConfig,
    OptimConfig,
    PretrainConfig,
    WatchConfig,
)
from medssl.config.views import ViewsConfig

__all__ = [
    "MAX_SEED",
    "ChainConfig",
    "DecodeConfig",
    "Duration",
    "EncoderConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "ForeignConfig",
    "FullConfig",
    "Group",
    "LabelText",
    "LogConfig",
    "MICLeConfig",
    "MethodConfig",
    "Month",
    "NextSliceConfig",
    "OptimConfig",
    "PairSettings",
    "Precision",
    "PretrainConfig",
    "Settings",
    "SimCLRConfig",
    "SliceOrderConfig",
    "ViewsConfig",
    "WatchConfig",
]
