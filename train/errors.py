"""The error tree of training; it continues the engines' tree. Each docstring says what the person does."""

from engines.errors import MmfError


class CohortRefused(MmfError):
    """The cohort cannot be trained on as it is. Correct what the message names in the cohort or the splits."""


class RecipeRefused(MmfError):
    """The recipe is not there or does not fit. Correct what the message names; conf/recipes holds paper and mini."""


class TrainingStopped(MmfError):
    """Training met a value that is not finite. Look at the cases the message names, then lower the learning rate."""


class DeviceFull(MmfError):
    """The device has too little memory. Lower batch_size and raise pooled_batches: the risk sets stay as large."""


class CheckpointRefused(MmfError):
    """The checkpoint belongs to another run. Choose another output folder, or delete this one to start again."""


class FitRefused(MmfError):
    """The folder of a fit is damaged, incomplete, or of another cohort or plan. Choose another folder, or fit again."""


class AblationRefused(MmfError):
    """The folder of an ablation is damaged, or belongs to another plan. Choose another output folder, or run it again."""
