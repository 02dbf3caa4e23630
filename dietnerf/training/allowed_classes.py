"""The classes of Lightning that a config file may name, and those that take its sections.

This is the part of the allow-list (`runs/allowlist.py`) that needs Lightning: the options of a
section are those of the constructor that takes them.
"""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy, Strategy

from dietnerf.runs.allowlist import Allowlist
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.system import DietNeRF

ALLOWLIST = Allowlist(
    sections={"model": DietNeRF, "data": SceneDataModule, "trainer": pl.Trainer},
    listed={
        Callback: (
            *(EMAWeightAveraging, EarlyStopping, ModelCheckpoint),
            *(LearningRateMonitor, DeviceStatsMonitor, TQDMProgressBar),
        ),
        Logger: (TensorBoardLogger, CSVLogger),  # others send what they log somewhere
        Profiler: (SimpleProfiler, AdvancedProfiler),
        Strategy: (DDPStrategy,),
    },
)
