"""The authors' names for our parameters: one table, one function."""

import re

# our name -> the released one; {fields} are filled in by `released_name`
_RELEASED = (
    (r"encoder\.first\.(?P<kind>weight|bias)", "conv_body_first.{conv}"),
    (r"encoder\.down\.(?P<size>\d+)\.(?P<kind>weight|bias)", "conv_body_down.{depth_1}.{conv_down}"),
    (r"encoder\.top\.(?P<kind>weight|bias)", "final_conv.{conv}"),
    (r"encoder\.skip\.(?P<size>\d+)\.(?P<kind>weight|bias)", "condition_shift.{depth}.0.{kind}"),
    (r"encoder\.head\.down(?P<n>\d)\.(?P<kind>weight|bias)", "final_down{n}.{conv_down}"),
    (r"encoder\.head\.linear\.(?P<kind>weight|bias)", "final_linear.{kind}"),
    (r"modulation\.gen\.(?P<size>\d+)\.(?P<kind>weight|bias)", "condition_scale1.{depth}.{kind}"),
    (r"modulation\.enc\.(?P<size>\d+)\.(?P<kind>weight|bias)", "condition_scale2.{depth}.{kind}"),
    (r"levels\.16\.conv\.(?P<part>.+)", "style_conv1.{style}"),
    (r"levels\.(?P<size>\d+)\.up\.(?P<part>.+)", "style_convs.{height_2}.{style}"),
    (r"levels\.(?P<size>\d+)\.conv\.(?P<part>.+)", "style_convs.{height_2_1}.{style}"),
    (r"levels\.16\.to_rgb\.(?P<part>.+)", "to_rgb1.{rgb}"),
    (r"levels\.(?P<size>\d+)\.to_rgb\.(?P<part>.+)", "to_rgbs.{height}.{rgb}"),
    (r"first\.(?P<kind>weight|bias)", "conv_body.0.{conv}"),
    (r"blocks\.(?P<n>\d+)\.conv1\.(?P<kind>weight|bias)", "conv_body.{n_1}.conv1.{conv}"),
    (r"blocks\.(?P<n>\d+)\.conv2\.(?P<kind>weight|bias)", "conv_body.{n_1}.conv2.{conv_down}"),
    (r"blocks\.(?P<n>\d+)\.skip\.(?P<kind>weight)", "conv_body.{n_1}.skip.{conv_down}"),
    (r"final_conv\.(?P<kind>weight|bias)", "final_conv.{conv}"),
    (r"linear1\.(?P<kind>weight|bias)", "final_linear.0.{kind}"),
    (r"linear2\.(?P<kind>weight|bias)", "final_linear.1.{kind}"),
)
_STYLE_PARTS = {
    "conv.weight": "modulated_conv.weight",
    "conv.style.weight": "modulated_conv.modulation.weight",
    "conv.style.bias": "modulated_conv.modulation.bias",
    "noise_strength": "weight",
    "bias": "activate.bias",
}
_RGB_PARTS = {**_STYLE_PARTS, "bias": "bias"}


def released_name(name: str, out_size: int) -> str | None:
    """The key that the released code gives to a parameter of ours, generator or discriminator; None if it has none.

    Encoder and modulation count from the largest level down, the generator from 32 pixels up.
    """
    for pattern, target in _RELEASED:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        found: dict[str, str] = match.groupdict()
        bias = found.get("kind") == "bias"
        size, n, part = int(found.get("size", 16)), found.get("n", "0"), found.get("part", "")
        depth = (out_size // size).bit_length() - 1  # levels below the largest
        height = (size // 32).bit_length() - 1  # levels above 32 pixels
        return target.format(
            kind=found.get("kind"), n=n, n_1=int(n) + 1, depth=depth, depth_1=depth - 1, height=height,
            height_2=2 * height, height_2_1=2 * height + 1, style=_STYLE_PARTS.get(part), rgb=_RGB_PARTS.get(part),
            conv="1.bias" if bias else "0.weight",  # [convolution, activation]
            conv_down="2.bias" if bias else "1.weight",  # [blur, convolution, activation]
        )  # fmt: skip
    return None
