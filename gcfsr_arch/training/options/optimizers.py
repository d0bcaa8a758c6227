"""Schema of the optimisers: torch's, and those of a fixed list of packages. No option file can name anything else.

Left out of torch's are LBFGS, which needs a closure, SparseAdam, for sparse gradients, and Rprop, for whole data sets.
"""

from typing import Annotated, Literal

from pydantic import Field

from gcfsr_arch.training.options.data import one_of
from gcfsr_arch.training.options.types import Count, Float, NaturalInt, OpenSection, Positive, Section, Share, Weight

Decay = Annotated[Float, Field(ge=0, lt=1)]
Betas = Annotated[list[Decay], Field(min_length=2, max_length=2)]
PositiveBetas = Annotated[list[Annotated[Float, Field(gt=0, lt=1)]], Field(min_length=2, max_length=2)]
SCHEDULE_FREE = ("AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree")
PACKAGES = {  # module: the package to install; torch's are not in it
    **dict.fromkeys(SCHEDULE_FREE, ("schedulefree", "schedulefree")),
    **dict.fromkeys(("Muon", "SOAP"), ("pytorch_optimizer", "pytorch-optimizer")),
}


class Optimizer(Section):
    """Keys of every optimiser."""

    type: str
    lr: Positive
    weight_decay: Weight = 0.0


class Adam(Optimizer):
    """Adam or AdamW, with torch's arguments."""

    type: Literal["Adam", "AdamW"]
    betas: Betas = Field([0.9, 0.999])
    eps: Positive = 1e-8
    amsgrad: bool = False


class RAdam(Optimizer):
    """RAdam, with torch's arguments."""

    type: Literal["RAdam"]
    betas: Betas = Field([0.9, 0.999])
    eps: Positive = 1e-8
    decoupled_weight_decay: bool = False


class NAdam(Optimizer):
    """NAdam, with torch's arguments."""

    type: Literal["NAdam"]
    betas: Betas = Field([0.9, 0.999])
    eps: Positive = 1e-8
    momentum_decay: Weight = 0.004
    decoupled_weight_decay: bool = False


class Adamax(Optimizer):
    """Adamax, with torch's arguments."""

    type: Literal["Adamax"]
    betas: Betas = Field([0.9, 0.999])
    eps: Positive = 1e-8


class Adagrad(Optimizer):
    """Adagrad, with torch's arguments."""

    type: Literal["Adagrad"]
    lr_decay: Weight = 0.0
    initial_accumulator_value: Weight = 0.0
    eps: Positive = 1e-10


class Adadelta(Optimizer):
    """Adadelta, with torch's arguments."""

    type: Literal["Adadelta"]
    rho: Share = 0.9
    eps: Positive = 1e-6


class Adafactor(Optimizer):
    """Adafactor, with torch's arguments: second moments of matrices as the product of two vectors."""

    type: Literal["Adafactor"]
    beta2_decay: Annotated[Float, Field(le=0)] = -0.8
    d: Annotated[Float, Field(ge=1)] = Field(1.0, description="Largest root mean square of an update.")


class RmsProp(Optimizer):
    """RMSprop, with torch's arguments."""

    type: Literal["RMSprop"]
    alpha: Share = 0.99
    eps: Positive = 1e-8
    momentum: Weight = 0.0
    centered: bool = False


class Sgd(Optimizer):
    """SGD, with torch's arguments."""

    type: Literal["SGD"]
    momentum: Weight = 0.0
    dampening: Weight = 0.0


class Asgd(Optimizer):
    """ASGD, with torch's arguments."""

    type: Literal["ASGD"]
    lambd: Weight = 1e-4
    alpha: Weight = 0.75
    t0: Weight = 1e6


class ScheduleFreeAdam(Optimizer):
    """Of the package schedulefree (Defazio et al., 2024); its average of the weights is validated and saved."""

    type: Literal["AdamWScheduleFree", "RAdamScheduleFree"]
    betas: PositiveBetas = Field([0.9, 0.999])
    eps: Positive = 1e-8


class ScheduleFreeSgd(Optimizer):
    """Of the package schedulefree (Defazio et al., 2024); its average of the weights is validated and saved."""

    type: Literal["SGDScheduleFree"]
    momentum: Annotated[Float, Field(gt=0, lt=1)] = 0.9


class Soap(Optimizer):
    """SOAP (Vyas et al., 2024), of the package pytorch-optimizer: Adam in the eigenbasis of Shampoo's matrices."""

    type: Literal["SOAP"]
    betas: Betas = Field([0.95, 0.95])
    eps: Positive = 1e-8
    precondition_frequency: Count = Field(10, description="Steps between two eigenbases.")
    max_precondition_dim: Count = Field(2048, description="Sides of a weight above this one are left as they are.")


class Muon(Optimizer):
    """Muon (Jordan et al., 2024), of the package pytorch-optimizer; biases, gains and image layers take AdamW."""

    type: Literal["Muon"]
    momentum: Decay = 0.95
    nesterov: bool = True
    ns_steps: Annotated[NaturalInt, Field(ge=1, le=20)] = Field(5, description="Newton-Schulz iterations.")
    use_adjusted_lr: bool = Field(
        True, description="Updates as large as AdamW's (Moonlight), so that `lr` is that of AdamW."
    )
    adamw_betas: Betas = Field([0.9, 0.95])
    adamw_eps: Positive = 1e-10


class OtherOptimizer(OpenSection):
    """An unknown optimiser; `cross.py` says so."""

    type: str


SECTIONS = (
    *(Adam, RAdam, NAdam, Adamax, Adagrad, Adadelta, Adafactor, RmsProp, Sgd, Asgd),
    *(ScheduleFreeAdam, ScheduleFreeSgd, Soap, Muon),
)
OPTIMIZERS: dict[str, type[Section]] = {
    kind: section for section in SECTIONS for kind in section.model_fields["type"].annotation.__args__
}
AnyOptimizer = one_of(OPTIMIZERS, OtherOptimizer)
