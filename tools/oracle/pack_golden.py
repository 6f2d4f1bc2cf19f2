"""What compressed-tensors makes of `moraine pack`'s output: pack_golden.py MORAINE MODEL OUT.safetensors FORMAT...

For each FORMAT the model is packed and every weight dequantised by the compressed-tensors package, under the
targets of the config.json that pack wrote; OUT holds two experts and one other projection of each, and the bound on
rounding is checked against the weights before."""
import argparse
import subprocess
import tempfile

import torch
from safetensors.torch import save_file

import compressed
import fp8
import hf

KEPT = ("model.layers.1.mlp.experts.0.", "model.layers.2.mlp.experts.7.", "model.layers.0.self_attn.kv_a_proj_with_mqa.")


def plain_tensors(folder):
    config, tensors = hf.read_config(folder), hf.read_tensors(folder)
    method = config.get("quantization_config", {}).get("quant_method")
    if method == "compressed-tensors":
        return compressed.dequantize(config, tensors)
    return {n: fp8.dequantize(t, tensors[n + "_scale_inv"]) if t.dtype == torch.float8_e4m3fn else t
            for n, t in tensors.items() if not n.endswith("_scale_inv")}


def check_rounding(name, before, after, bits):
    """No value farther off than half the coarsest step (clipping included: int4 divides by 10.5 at most)."""
    steps = 127 if bits == 8 else 7
    worst = (before - after).abs().amax(-1) / before.abs().amax(-1)
    bound = 0.51 / steps if bits == 8 else 1 - 7.5 / 10.5
    assert (worst <= bound).all(), (name, worst.max())


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("moraine")
    ap.add_argument("model")
    ap.add_argument("out")
    ap.add_argument("formats", nargs="+")
    a = ap.parse_args()
    source, kept = plain_tensors(a.model), {}
    for format in a.formats:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([a.moraine, "pack", a.model, f"{folder}/out", "--experts", format], check=True)
            packed = plain_tensors(f"{folder}/out")
        assert packed.keys() == source.keys(), packed.keys() ^ source.keys()
        for name, t in packed.items():
            if ".mlp.experts." in name:
                check_rounding(name, source[name].float(), t, int(format[3]))
            else:
                assert torch.equal(t, source[name]), name
            if name.startswith(KEPT):
                kept[f"{format}/{name}"] = t.float().contiguous()
    save_file(kept, a.out)


if __name__ == "__main__":
    main()
