"""A projector (mmproj) for the scripted model: pictures become four tokens that say nothing, through the real image code."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from helpers.scripted_gguf import WIDTH

SIDE, PATCH, INNER, LAYERS = 28, 14, 32, 2


def write_projector(path: Path) -> None:
    """As LLaVA's: patches, two blocks of a vision transformer, and two layers into the model's width. All weights are zero."""
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_name("scripted projector")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", True)  # noqa: FBT003  the library's own signature
    writer.add_bool("clip.use_gelu", True)  # noqa: FBT003
    writer.add_string("clip.projector_type", "mlp")
    for name, value in (
        ("image_size", SIDE),
        ("patch_size", PATCH),
        ("embedding_length", INNER),
        ("feed_forward_length", INNER),
        ("projection_dim", WIDTH),
        ("block_count", LAYERS),
        ("attention.head_count", 2),
    ):
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])
    for name, shape in _shapes().items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shapes() -> dict[str, tuple[int, ...]]:
    """Of every tensor, slowest dimension first."""
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (INNER, 3, PATCH, PATCH),
        "v.position_embd.weight": ((SIDE // PATCH) ** 2, INNER),
        "mm.0.weight": (WIDTH, INNER),
        "mm.0.bias": (WIDTH,),
        "mm.2.weight": (WIDTH, WIDTH),
        "mm.2.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
            shapes[f"v.blk.{layer}.{name}.weight"] = (INNER, INNER)
            shapes[f"v.blk.{layer}.{name}.bias"] = (INNER,)
        for name in ("ln1", "ln2"):
            shapes[f"v.blk.{layer}.{name}.weight"] = shapes[f"v.blk.{layer}.{name}.bias"] = (INNER,)
    return shapes
