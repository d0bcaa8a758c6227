import torch
from spandrel import ModelLoader
from spandrel.architectures.GCFSR import GCFSR, GCFSRArch

from .util import (
    assert_loads_correctly,
    assert_size_requirements,
    disallowed_props,
    skip_if_unchanged,
)

skip_if_unchanged(__file__)


def small(**options: object) -> GCFSR:
    return GCFSR(32, num_style_feat=32, narrow=1 / 16, **options)


def test_load():
    assert_loads_correctly(
        GCFSRArch(),
        lambda: small(),
        lambda: GCFSR(32, narrow=1 / 16, style_modulation=False),
        lambda: small(feature_modulation=False),
        lambda: small(variant="released"),
        lambda: small(variant="released", blind=True),
        lambda: GCFSR(64, num_style_feat=64, narrow=1 / 8),
        lambda: GCFSR(64, num_style_feat=32, narrow=1 / 16, channel_multiplier=1),
    )


def test_size_requirements():
    model = ModelLoader().load_from_state_dict(small().state_dict())
    assert_size_requirements(model, max_size=100)


def test_GCFSR(snapshot):
    torch.manual_seed(0)
    model = ModelLoader().load_from_state_dict(small().state_dict())
    assert model == snapshot(exclude=disallowed_props)
    assert isinstance(model.model, GCFSR)
    output = model(torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32))
    assert [round(x, 2) for x in output.mean((0, 2)).flatten().tolist()[::8]] == snapshot
