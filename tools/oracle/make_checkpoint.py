"""Write a small random checkpoint folder in DeepSeek's published layout: make_checkpoint.py RECIPE OUT_DIR."""
import argparse
import dataclasses
import json
import os

import torch
from safetensors.torch import save_file

import fp8
import layout
import weights
from recipes import RECIPES

GENERATION = {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "do_sample": True,
              "temperature": 0.6, "top_p": 0.95, "transformers_version": "4.46.3"}


def shared_source(name, n_layers):
    """The published MTP layer repeats the main embedding and head, so draw them under the main name."""
    if name == f"model.layers.{n_layers}.embed_tokens.weight":
        return "model.embed_tokens.weight"
    return "lm_head.weight" if name.endswith("shared_head.head.weight") else name


def make_tensors(recipe):
    out, dtype, quantization = {}, getattr(torch, recipe.dtype), None
    if recipe.config.get("quantization_config", {}).get("quant_method") == "compressed-tensors":
        import compressed    # slow to import, and only these recipes need it
        quantization = compressed.read(recipe.config)
    for name, shape in layout.published_shapes(recipe.config).items():
        source = shared_source(name, recipe.config["num_hidden_layers"])
        w = torch.from_numpy(weights.random_tensor(recipe.seed, source, shape, recipe.gains))
        if name.endswith("e_score_correction_bias"):
            out[name] = w
        elif quantization is not None and (packed := compressed.quantize(
                quantization, name, w, getattr(torch, recipe.scale_dtype))):
            out.update(packed)
        elif recipe.fp8 and fp8.is_quantized_name(name):
            out[name], out[name + "_scale_inv"] = fp8.quantize(w)
        else:
            out[name] = w.to(dtype)
    return out


def nbytes(t):
    return t.numel() * t.element_size()


def cut_into_shards(tensors, count):
    """Contiguous runs of about equal bytes; a weight and its scale may part, as in R1's own files."""
    total, done, shards = sum(map(nbytes, tensors.values())), 0, [{} for _ in range(count)]
    for name, t in tensors.items():
        shards[min(count - 1, done * count // total)][name] = t
        done += nbytes(t)
    return shards


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def write_published(recipe, folder):
    tensors = make_tensors(recipe)
    write_json(f"{folder}/config.json", recipe.config)
    write_json(f"{folder}/generation_config.json", GENERATION)
    if recipe.shards == 1:
        save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for i, shard in enumerate(cut_into_shards(tensors, recipe.shards), 1):
        file = f"model-{i:05d}-of-{recipe.shards:06d}.safetensors"   # R1's own pattern: five digits, then six
        save_file(shard, f"{folder}/{file}", metadata={"format": "pt"})
        weight_map.update({name: file for name in shard})
    write_json(f"{folder}/model.safetensors.index.json",
               {"metadata": {"total_size": sum(map(nbytes, tensors.values()))}, "weight_map": weight_map})


def stack_experts(state, shapes):
    """Back from single experts to HF's stacked parameters."""
    def one(name):
        if name.endswith("experts.gate_up_proj"):
            n = shapes[name][0]
            return torch.stack([torch.cat([state[name.replace("gate_up_proj", f"{e}.{p}_proj.weight")]
                                           for p in ("gate", "up")]) for e in range(n)])
        if name.endswith("experts.down_proj"):
            return torch.stack([state[name.replace("down_proj", f"{e}.down_proj.weight")]
                                for e in range(shapes[name][0])])
        return state[name]
    return {name: one(name) for name in shapes}


def native_config(config):
    """As a user of transformers 5 writes it: HF's own fields only, so no scoring_func, topk_method or ep_size."""
    cls = layout.CLASSES[config["model_type"]][0]
    known = {f.name for f in dataclasses.fields(cls)} - {"architectures", "transformers_version"}
    rope = {k: v for k, v in (config["rope_scaling"] or {"type": "default"}).items() if k != "type"}
    rope.update(rope_type=(config["rope_scaling"] or {}).get("type", "default"), rope_theta=config["rope_theta"])
    return cls(**{k: v for k, v in config.items() if k in known}, rope_parameters=rope)


def write_hf_save(recipe, folder):
    """Whatever save_pretrained writes, untouched: users will make such folders."""
    model = layout.CLASSES[recipe.config["model_type"]][1](native_config(recipe.config))
    model = model.to(getattr(torch, recipe.dtype))
    # .to() takes e_score_correction_bias along, so these files hold it in the storage dtype, unlike DeepSeek's F32.
    shapes = {n: t.shape for n, t in model.state_dict().items()}
    model.load_state_dict(stack_experts(make_tensors(recipe), shapes))
    model.save_pretrained(folder)


def write_checkpoint(recipe, folder):
    os.makedirs(folder, exist_ok=True)
    (write_hf_save if recipe.hf_save else write_published)(recipe, folder)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("recipe", choices=RECIPES)
    ap.add_argument("out")
    a = ap.parse_args()
    write_checkpoint(RECIPES[a.recipe], a.out)


if __name__ == "__main__":
    main()
