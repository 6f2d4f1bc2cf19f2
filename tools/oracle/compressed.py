"""Integers as compressed-tensors stores them, quantised and dequantised by that package itself."""
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.utils.helpers import calculate_qparams
from compressed_tensors.utils.match import match_name


def read(config):
    return QuantizationConfig.model_validate(config["quantization_config"])


def scheme_of(quantization, module):
    """(scheme, format) of a linear module by its name, or None: the package's own rule, on names alone."""
    def matches(targets):
        return any(t == "Linear" or match_name(module, t) for t in targets or [])
    if matches(quantization.ignore):
        return None
    for scheme in quantization.config_groups.values():
        if matches(scheme.targets):
            return scheme, scheme.format or quantization.format
    return None


def is_linear(name):
    """Every matrix but the embedding is a Linear, but the router, which is a module of its own kind."""
    return name.endswith(".weight") and "norm" not in name and "embed_tokens" not in name and ".mlp.gate." not in name


def compressor(kind):
    return BaseCompressor.get_value_from_registry(getattr(kind, "value", kind))


def quantize(quantization, name, w, scale_dtype):
    """The tensors that store `w`, by full name: nearest values, scales from the extremes of each group."""
    found = scheme_of(quantization, name.removesuffix(".weight")) if is_linear(name) else None
    if found is None:
        return None
    scheme, kind = found
    args, prefix = scheme.weights, name.removesuffix("weight")
    groups = w.reshape(w.shape[0], -1, args.group_size if args.strategy == "group" else w.shape[1])
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    scale = scale.to(scale_dtype)
    state = {"weight": w, "weight_scale": scale.float(), "weight_zero_point": zero}
    state = compressor(kind).compress(state, scheme)
    state["weight_scale"] = scale
    return {prefix + key: t.contiguous() for key, t in state.items()}


def dequantize(config, tensors):
    """All tensors of a folder as plain ones: f32 products of integers and stored scales, unrounded."""
    quantization, plain, parts = read(config), {}, {}
    marks = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")
    quantised = {n.rsplit(".", 1)[0] for n in tensors if n.endswith(".weight_scale")}
    for name, t in tensors.items():
        module, _, key = name.rpartition(".")
        if module in quantised and key in marks + ("weight",):
            parts.setdefault(module, {})[key] = t
        else:
            plain[name] = t
    for module, state in parts.items():
        found = scheme_of(quantization, module)
        if found is None:
            raise SystemExit(f"{module} is stored quantised, but no target of config.json matches it")
        scheme, kind = found
        state["weight_scale"] = state["weight_scale"].float()
        plain[module + ".weight"] = compressor(kind).decompress(state, scheme)["weight"].contiguous()
        assert plain[module + ".weight"].dtype == torch.float32
    for name in plain:
        if is_linear(name) and name.removesuffix(".weight") not in parts:
            if scheme_of(quantization, name.removesuffix(".weight")) is not None:
                raise SystemExit(f"{name} is stored plain, but config.json's targets say it is quantised")
    return plain
