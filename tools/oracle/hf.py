"""Load a checkpoint folder into HF transformers in f32 (or a true f64) with eager attention and experts."""
import contextlib
import glob
import json
import os
import shutil
import tempfile

import torch
import transformers
import transformers.modeling_rope_utils as rope_utils
import transformers.models.deepseek_v2.modeling_deepseek_v2 as modeling_v2
import transformers.models.deepseek_v3.modeling_deepseek_v3 as modeling_v3
from safetensors.torch import load_file, save_file

import fp8
from layout import CLASSES

torch.set_num_threads(min(2, os.cpu_count() or 1))
transformers.utils.logging.set_verbosity_error()


class _TorchIn64:
    """`torch` as HF's modules see it, with float32 meaning float64 (HF upcasts norms, router, softmax to f32)."""
    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def widened(f64):
    """While open and f64, no step of HF's forward pass falls back to f32."""
    if not f64:
        yield
        return
    modules, to_float = (modeling_v2, modeling_v3, rope_utils), torch.Tensor.float
    for m in modules:
        m.torch = _TorchIn64()
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = to_float
        for m in modules:
            m.torch = torch


def read_config(folder):
    with open(f"{folder}/config.json") as f:
        return json.load(f)


def read_tensors(folder):
    """Only the checkpoint's own files: a golden.safetensors may lie beside them."""
    paths = glob.glob(f"{folder}/model*.safetensors")
    return {n: t for path in sorted(paths) for n, t in load_file(path).items()}


def dequantized_copy(folder, target):
    """HF's own FP8 path needs a GPU and rounds integers to the scales' type, so it gets a plain F32 folder."""
    config, tensors = read_config(folder), read_tensors(folder)
    if config["quantization_config"]["quant_method"] == "compressed-tensors":
        import compressed    # slow to import, and only these folders need it
        plain = compressed.dequantize(config, tensors)
    else:
        plain = {n: fp8.dequantize(t, tensors[n + "_scale_inv"]) if t.dtype == torch.float8_e4m3fn else t
                 for n, t in tensors.items() if not n.endswith("_scale_inv")}
    config.pop("quantization_config")
    save_file(plain, f"{target}/model.safetensors", metadata={"format": "pt"})
    with open(f"{target}/config.json", "w") as f:
        json.dump({**config, "torch_dtype": "float32"}, f)


@contextlib.contextmanager
def plain_folder(folder):
    """A folder HF can load: the given one, or a temporary dequantised copy."""
    if "quantization_config" not in read_config(folder):
        yield folder
        return
    target = tempfile.mkdtemp(prefix="dequantized-")
    try:
        dequantized_copy(folder, target)
        yield target
    finally:
        shutil.rmtree(target)


def ignore_mtp_layer(config):
    """HF only knows R1's layer 61 as MTP; elsewhere name the layer, or it warns and MtpModel finds nothing."""
    if config["model_type"] == "deepseek_v3":
        pattern = rf"model\.layers\.{config['num_hidden_layers']}\..*"
        modeling_v3.DeepseekV3PreTrainedModel._keys_to_ignore_on_load_unexpected = [pattern]


def load(folder, f64=False):
    """The HF model; a missing or unexpected tensor is an error, never a silently random weight."""
    config = read_config(folder)
    ignore_mtp_layer(config)
    with plain_folder(folder) as plain, widened(f64):
        model, info = CLASSES[config["model_type"]][1].from_pretrained(
            plain, dtype=torch.float64 if f64 else torch.float32, attn_implementation="eager",
            experts_implementation="eager", output_loading_info=True)
    problems = {k: v for k, v in info.items() if v}
    if problems:
        raise SystemExit(f"{folder}: HF could not load it cleanly: {problems}")
    return model.eval()


def logits(model, ids, f64=False):
    with torch.no_grad(), widened(f64):
        return model(torch.tensor([list(ids)]), use_cache=False).logits[0]
