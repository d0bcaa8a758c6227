"""A generator with the Hugging Face hub's own mixin: `from_pretrained`, `save_pretrained`, `push_to_hub`.

A separate class, so that the networks need torch only; otherwise it is a `GCFSR`.
"""

from huggingface_hub import PyTorchModelHubMixin

from gcfsr_arch import GCFSR


class HubGCFSR(
    GCFSR,
    PyTorchModelHubMixin,
    library_name="gcfsr",
    tags=["face-super-resolution", "image-restoration"],
    pipeline_tag="image-to-image",
):
    """`GCFSR` with the hub's methods; the arguments are stored as config.json, the weights as model.safetensors.

    >>> net = HubGCFSR(out_size=32, num_style_feat=32, narrow=1 / 16)
    >>> net.save_pretrained(folder)                                                             # doctest: +SKIP
    >>> HubGCFSR.from_pretrained(folder).config == net.config                                   # doctest: +SKIP
    True
    """

    @classmethod
    def from_network(cls, net: GCFSR) -> "HubGCFSR":
        """The same network (its parameters are shared) with the hub's methods."""
        hub = cls(**net.config.to_dict())
        hub.load_state_dict(net.state_dict(), assign=True)
        return hub.train(net.training)
