#!/usr/bin/env python3
"""Writes a tiny Llama for `make demo-vllm`: a configuration and a tokenizer, without weights (vLLM makes up random ones).

One token is one printable character, so the tokenizer needs no training, and no library to write it. What such a
model answers is noise; how long prompts are, what is cached and what waits is as real as with a large one.
"""

import json
import os

MAX_TOKENS = 8192
SPECIAL = ["<bos>", "<eos>", "<pad>", "<other>"]
BOS, EOS, PAD, OTHER = range(len(SPECIAL))

CHAT_TEMPLATE = (
    "{% for message in messages %}<bos>{{ message.role }}: {{ message.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant: {% endif %}"
)


def write(folder):
    """Writes the files of the model into `folder`."""
    os.makedirs(folder, exist_ok=True)
    vocabulary = SPECIAL + ["\n"] + [chr(code) for code in range(ord(" "), ord("~") + 1)]
    for name, content in [
        ("config.json", config(len(vocabulary))),
        ("tokenizer.json", tokenizer(vocabulary)),
        ("tokenizer_config.json", tokenizer_config()),
    ]:
        with open(os.path.join(folder, name), "w") as file:
            json.dump(content, file, indent=1)


def config(vocabulary_size):
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocabulary_size,
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": MAX_TOKENS,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }


def tokenizer(vocabulary):
    added = [
        {"id": id, "content": content, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for id, content in enumerate(SPECIAL)
    ]
    model = {
        # Pairs of characters are never merged, so that each stays a token of its own.
        "type": "BPE", "merges": [], "vocab": {content: id for id, content in enumerate(vocabulary)},
        "unk_token": SPECIAL[OTHER], "dropout": None, "fuse_unk": False, "byte_fallback": False,
        "continuing_subword_prefix": None, "end_of_word_suffix": None,
    }
    return {
        "version": "1.0", "added_tokens": added, "model": model, "decoder": {"type": "Fuse"},
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "truncation": None, "padding": None,
    }


def tokenizer_config():
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_TOKENS,
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[PAD],
        "unk_token": SPECIAL[OTHER],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
