#!/usr/bin/env python3
"""A GGUF of R1's layer geometry with few layers and random weights, for llama.cpp beside Moraine.

usage: make_gguf.py OUT.gguf [--layers 2] [--dense 1] [--experts 256] [--vocab 4096] [--routed Q4_K] [--rest BF16]

Routed experts are of one type, every other matrix of another (Q8_0 where a row is no multiple of its block), norms and
router f32. There is no tokenizer: token ids go in. Needs the packages gguf and numpy.
"""

import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

HIDDEN, DENSE, INNER, HEADS, Q_LORA, KV_LORA, NOPE, ROPE, V_HEAD = 7168, 18432, 2048, 128, 1536, 512, 128, 64, 128


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dense", type=int, default=1)
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--routed", default="Q4_K", choices=["Q4_K", "Q8_0", "BF16"])
    parser.add_argument("--rest", default="BF16", choices=["Q4_K", "Q8_0", "BF16"])
    return parser.parse_args()


def random_rows(rng, kind, values, deviation):
    """`values` weights of about this deviation as the type stores them, a flat array of bytes."""
    if kind == Type.BF16:
        bits = (rng.standard_normal(values, np.float32) * deviation).view(np.uint32)
        return (bits >> 16).astype(np.uint16).view(np.uint8)
    if kind == Type.Q8_0:  # f16 scale, 32 signed bytes
        blocks = rng.integers(0, 256, (values // 32, 34), np.uint8)
        blocks[:, :2] = np.array([deviation / 74], np.float16).view(np.uint8)
        return blocks.reshape(-1)
    if kind == Type.Q4_K:  # f16 scale and minimum, 12 bytes of 6-bit ones, 128 bytes of nibbles
        blocks = rng.integers(0, 256, (values // 256, 144), np.uint8)
        blocks[:, :4] = np.array([deviation / 200, 7.5 * deviation / 200], np.float16).view(np.uint8)
        return blocks.reshape(-1)
    raise ValueError(kind)


def header(writer, options):
    writer.add_block_count(options.layers)
    writer.add_context_length(163840)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(DENSE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_expert_used_count(8)
    writer.add_expert_count(options.experts)
    writer.add_uint32("deepseek2.expert_group_count", 8)
    writer.add_uint32("deepseek2.expert_group_used_count", 4)
    writer.add_uint32("deepseek2.expert_gating_func", 2)  # sigmoid
    writer.add_leading_dense_block_count(options.dense)
    writer.add_vocab_size(options.vocab)
    writer.add_q_lora_rank(Q_LORA)
    writer.add_kv_lora_rank(KV_LORA)
    writer.add_key_length(KV_LORA + ROPE)
    writer.add_value_length(KV_LORA)
    writer.add_key_length_mla(NOPE + ROPE)
    writer.add_value_length_mla(V_HEAD)
    writer.add_expert_feed_forward_length(INNER)
    writer.add_expert_shared_count(1)
    writer.add_expert_weights_scale(2.5)
    writer.add_expert_weights_norm(True)
    writer.add_rope_dimension_count(ROPE)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(40.0)
    writer.add_rope_scaling_orig_ctx_len(4096)
    writer.add_rope_scaling_yarn_log_mul(0.1)
    writer.add_quantization_version(2)
    writer.add_string("tokenizer.ggml.model", "none")


def tensors(options):
    """(name, shape, type), rows last but one; type None is f32 ones, zeros or a router."""
    rest, routed = Type[options.rest], Type[options.routed]
    # As llama.cpp's own conversions keep them; its graph refuses some of these in Q4_K.
    kept = Type.Q8_0 if rest == Type.Q4_K else rest

    def matrix(name, *shape, kind=rest):
        fits = shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        return name, shape, kind if fits else Type.Q8_0

    yield matrix("token_embd.weight", options.vocab, HIDDEN, kind=kept)
    for layer in range(options.layers):
        p = f"blk.{layer}."
        for norm, size in (("attn_norm", HIDDEN), ("attn_q_a_norm", Q_LORA), ("attn_kv_a_norm", KV_LORA), ("ffn_norm", HIDDEN)):
            yield p + norm + ".weight", (size,), None
        yield matrix(p + "attn_q_a.weight", Q_LORA, HIDDEN)
        yield matrix(p + "attn_q_b.weight", HEADS * (NOPE + ROPE), Q_LORA)
        yield matrix(p + "attn_kv_a_mqa.weight", KV_LORA + ROPE, HIDDEN)
        yield matrix(p + "attn_k_b.weight", HEADS, KV_LORA, NOPE, kind=kept)
        yield matrix(p + "attn_v_b.weight", HEADS, V_HEAD, KV_LORA, kind=kept)
        yield matrix(p + "attn_output.weight", HIDDEN, HEADS * V_HEAD)
        if layer < options.dense:
            yield matrix(p + "ffn_gate.weight", DENSE, HIDDEN)
            yield matrix(p + "ffn_up.weight", DENSE, HIDDEN)
            yield matrix(p + "ffn_down.weight", HIDDEN, DENSE)
            continue
        yield p + "ffn_gate_inp.weight", (options.experts, HIDDEN), None
        yield p + "exp_probs_b.bias", (options.experts,), None
        for part in ("gate", "up"):
            yield matrix(f"{p}ffn_{part}_shexp.weight", INNER, HIDDEN)
            yield matrix(f"{p}ffn_{part}_exps.weight", options.experts, INNER, HIDDEN, kind=routed)
        yield matrix(p + "ffn_down_shexp.weight", HIDDEN, INNER)
        yield matrix(p + "ffn_down_exps.weight", options.experts, HIDDEN, INNER, kind=routed)
    yield "output_norm.weight", (HIDDEN,), None
    yield matrix("output.weight", options.vocab, HIDDEN, kind=kept)


def plain(rng, name, shape):
    if name.endswith("ffn_gate_inp.weight"):
        return rng.standard_normal(shape, np.float32) / np.float32(HIDDEN**0.5)
    return (np.zeros if name.endswith("bias") else np.ones)(shape, np.float32)


def main():
    options = parse()
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(options.out, "deepseek2")
    header(writer, options)
    listed = list(tensors(options))
    for name, shape, kind in listed:
        block, size = (1, 4) if kind is None else gguf.GGML_QUANT_SIZES[kind]
        count = int(np.prod(shape))
        writer.add_tensor_info(name, list(shape), np.dtype(np.float32), count // block * size, raw_dtype=kind or Type.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape, kind in listed:
        if kind is None:
            writer.write_tensor_data(plain(rng, name, shape))
            continue
        # One expert or head at a time keeps memory small; the tensor is what all of them give.
        count = int(np.prod(shape))
        piece = count // (shape[0] if len(shape) == 3 else 1)
        deviation = 1 / shape[-1] ** 0.5
        parts = [random_rows(rng, kind, piece, deviation) for _ in range(count // piece)]
        writer.write_tensor_data(np.concatenate(parts))
    writer.close()


if __name__ == "__main__":
    main()
