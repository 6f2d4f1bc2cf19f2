"""Named recipes: the shape, dtype and seed of every committed checkpoint."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    config: dict                 # config.json as DeepSeek publishes it
    seed: int
    dtype: str = "bfloat16"      # storage dtype of the plain tensors
    shards: int = 1
    fp8: bool = False            # projections as e4m3 blocks with weight_scale_inv
    scale_dtype: str = "bfloat16"  # of compressed-tensors' scales
    hf_save: bool = False        # written by save_pretrained instead of by us
    gains: dict = field(default_factory=dict)


def yarn(original, factor=40, mscale=1.0, mscale_all_dim=1.0, beta_fast=32, beta_slow=1):
    return {"beta_fast": beta_fast, "beta_slow": beta_slow, "factor": factor, "mscale": mscale,
            "mscale_all_dim": mscale_all_dim, "original_max_position_embeddings": original, "type": "yarn"}


def config(arch, **over):
    """R1's config.json keys with `over` on top; every shape must be in `over`."""
    v3 = arch == "V3"
    c = {
        "architectures": [f"Deepseek{arch}ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "ep_size": 1,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 4096,
        "model_type": "deepseek_v3" if v3 else "deepseek_v2",
        "moe_layer_freq": 1,
        "norm_topk_prob": v3,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5 if v3 else 1.0,
        "scoring_func": "sigmoid" if v3 else "softmax",
        "seq_aux": True,
        "tie_word_embeddings": False,
        "topk_method": "noaux_tc" if v3 else "greedy",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.3",
        "use_cache": True,
    }
    if v3:
        c["num_nextn_predict_layers"] = 0
    else:
        c["aux_loss_alpha"] = 0.001
    c.update(over)
    c.setdefault("num_key_value_heads", c["num_attention_heads"])
    if c["rope_scaling"]:
        r = c["rope_scaling"]
        c["max_position_embeddings"] = int(r["factor"] * r["original_max_position_embeddings"])
    return dict(sorted(c.items()))


FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}

# What Kimi-K2-Thinking leaves unquantised: everything but the routed experts.
_EXPERTS_ONLY = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]


def integers(bits, group=None, symmetric=True, kind="pack-quantized", ignore=("lm_head",), activations=None):
    """quantization_config as compressed-tensors writes it; group None: a scale for each row."""
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "group_size": group,
               "strategy": "group" if group else "channel", "dynamic": False}
    return {"config_groups": {"group_0": {"format": None, "input_activations": activations, "output_activations": None,
                                          "targets": ["Linear"], "weights": weights}},
            "format": kind, "global_compression_ratio": None, "ignore": list(ignore), "kv_cache_scheme": None,
            "quant_method": "compressed-tensors", "quantization_status": "compressed"}


_DYNAMIC_INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "group_size": None,
                 "dynamic": True}

# Every inner size a multiple of 128, so that each group size divides.
_INT_SHAPE = dict(
    vocab_size=128, hidden_size=128, intermediate_size=128, moe_intermediate_size=128,
    num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=4,
    q_lora_rank=128, kv_lora_rank=128, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=32,
    n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, n_group=4, topk_group=2,
    rope_scaling=yarn(48))

_V3_SHAPE = dict(
    vocab_size=256, hidden_size=80, intermediate_size=112, moe_intermediate_size=18,
    num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=3,
    q_lora_rank=40, kv_lora_rank=36, qk_nope_head_dim=24, qk_rope_head_dim=16, v_head_dim=20,
    n_routed_experts=16, n_shared_experts=1, num_experts_per_tok=4, n_group=4, topk_group=2,
    rope_scaling=yarn(32))

RECIPES = {
    "v3-bf16": Recipe(config("V3", **{**_V3_SHAPE, "num_nextn_predict_layers": 1}), seed=101),
    "v3-fp8": Recipe(config("V3",
        vocab_size=128, hidden_size=256, intermediate_size=132, moe_intermediate_size=20,
        num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=3,
        q_lora_rank=40, kv_lora_rank=116, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32,
        n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, n_group=4, topk_group=3,
        rope_scaling=yarn(48), quantization_config=FP8), seed=102, shards=3, fp8=True),
    "v2-lite": Recipe(config("V2",
        vocab_size=272, hidden_size=112, intermediate_size=176, moe_intermediate_size=28,
        num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=4,
        q_lora_rank=None, kv_lora_rank=48, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=24,
        n_routed_experts=10, n_shared_experts=2, num_experts_per_tok=3, n_group=1, topk_group=1,
        rope_scaling=yarn(40, mscale=0.707, mscale_all_dim=0.707), torch_dtype="float16"),
        seed=103, dtype="float16"),
    "v2": Recipe(config("V2",
        vocab_size=264, hidden_size=104, intermediate_size=136, moe_intermediate_size=20,
        num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=4,
        q_lora_rank=44, kv_lora_rank=40, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=16,
        n_routed_experts=15, n_shared_experts=2, num_experts_per_tok=4, n_group=5, topk_group=2,
        topk_method="group_limited_greedy", routed_scaling_factor=16.0,
        rope_scaling=yarn(64, beta_fast=4)), seed=112, gains={"experts.down_proj": 0.4}),
    "moonlight": Recipe(config("V3",
        vocab_size=256, hidden_size=72, intermediate_size=96, moe_intermediate_size=16,
        num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=2,
        q_lora_rank=None, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
        n_routed_experts=12, n_shared_experts=2, num_experts_per_tok=4, n_group=1, topk_group=1,
        rope_theta=50000.0, rms_norm_eps=1e-05, routed_scaling_factor=2.446, torch_dtype="float32"),
        seed=105, dtype="float32"),
    "v3-int4-g32": Recipe(config("V3", **{**_V3_SHAPE, "hidden_size": 96, "moe_intermediate_size": 32},
                                 quantization_config=integers(4, 32, ignore=_EXPERTS_ONLY)), seed=131, shards=2),
    "v3-int4-g64": Recipe(config("V3", **{**_INT_SHAPE, "hidden_size": 64, "moe_intermediate_size": 64,
                                           "q_lora_rank": 64, "kv_lora_rank": 64},
                                 quantization_config=integers(4, 64)), seed=132, scale_dtype="float16"),
    "v3-int4-g128": Recipe(config("V3", **_INT_SHAPE, quantization_config=integers(4, 128)),
                           seed=133, scale_dtype="float32"),
    "v3-int8": Recipe(config("V3", **{**_V3_SHAPE, "hidden_size": 84, "moe_intermediate_size": 30},
                             quantization_config=integers(8)), seed=134),
    # 34 rows: zero points end in the middle of a word.
    "v3-int4-zeros": Recipe(config("V3", **{**_V3_SHAPE, "hidden_size": 64, "moe_intermediate_size": 34},
                                   quantization_config=integers(4, 32, False, ignore=[
                                       *_EXPERTS_ONLY, r"re:.*experts\..*down_proj"])), seed=138),
    "v3-w8a8": Recipe(config("V3", **{**_V3_SHAPE, "hidden_size": 90, "moe_intermediate_size": 22},
                             quantization_config=integers(8, kind="int-quantized", activations=_DYNAMIC_INT8)),
                      seed=136),
    "v3-hf5": Recipe(config("V3", **{**_V3_SHAPE, "hidden_size": 88, "num_attention_heads": 4,
                                     "rope_scaling": yarn(24, factor=16)}), seed=121, hf_save=True),
}
