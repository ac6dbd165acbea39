"""Text models of transformers: real structure, two layers of 64 features each."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.architecture import Architecture, Draw
from zoo.inputs import tokens

__all__ = ["TEXT", "hugging_face"]

_VOCABULARY = 200
_LENGTH = 16
_BERT: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 40,
}


def hugging_face(config: str, model: str, **settings: Any) -> nn.Module:
    """Build a model of transformers from the names of its config's class and its own."""
    import transformers

    made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return made


class _SentenceEmbedding(nn.Module):
    """The mean of what RoBERTa gives for the tokens that are there, of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = hugging_face("RobertaConfig", "RobertaModel", **_BERT)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return one embedding a sample."""
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        there = attention_mask[..., None].to(hidden.dtype)
        pooled = (hidden * there).sum(1) / there.sum(1).clamp(min=1e-9)
        embedding: torch.Tensor = nn.functional.normalize(pooled, dim=-1)
        return embedding


class _Siamese(nn.Module):
    """The cosine of two texts' embeddings, by one encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = _SentenceEmbedding()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        input_ids_b: torch.Tensor,
        attention_mask_b: torch.Tensor,
    ) -> torch.Tensor:
        """Return one value a pair."""
        first: torch.Tensor = self.embed(input_ids, attention_mask)
        second: torch.Tensor = self.embed(input_ids_b, attention_mask_b)
        return (first * second).sum(-1, keepdim=True)


def _text(
    name: str, gives: str, config: str, model: str, draw: Draw | None = None, **settings: Any
) -> Architecture:
    build = partial(hugging_face, config, model, **settings)
    return Architecture(name, "transformers", gives, build, draw or tokens(_VOCABULARY, _LENGTH))


_CLASSIFIER = "class scores"
TEXT = (
    _text("bert", _CLASSIFIER, "BertConfig", "BertForSequenceClassification", **_BERT),
    _text(
        "albert",
        _CLASSIFIER,
        "AlbertConfig",
        "AlbertForSequenceClassification",
        **_BERT,
        embedding_size=32,
    ),
    _text(
        "distilbert",
        "token scores",
        "DistilBertConfig",
        "DistilBertForTokenClassification",
        vocab_size=_VOCABULARY,
        dim=64,
        n_layers=2,
        n_heads=4,
        hidden_dim=128,
        max_position_embeddings=40,
    ),
    _text(
        "mobilebert",
        "token features",
        "MobileBertConfig",
        "MobileBertModel",
        **{**_BERT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    ),
    _text(
        "squeezebert",
        _CLASSIFIER,
        "SqueezeBertConfig",
        "SqueezeBertForSequenceClassification",
        **_BERT,
        embedding_size=64,
    ),
    _text(
        "deberta_v2",
        "token features",
        "DebertaV2Config",
        "DebertaV2Model",
        **_BERT,
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
    ),
    _text(
        "funnel",
        "token features",
        "FunnelConfig",
        "FunnelModel",
        vocab_size=_VOCABULARY,
        block_sizes=[1, 1],
        num_decoder_layers=1,
        d_model=64,
        n_head=4,
        d_head=16,
        d_inner=128,
    ),
    _text(
        "t5_encoder",
        "token features",
        "T5Config",
        "T5EncoderModel",
        vocab_size=_VOCABULARY,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
    ),
    _text(
        "gpt2",
        "logits over time",
        "GPT2Config",
        "GPT2LMHeadModel",
        vocab_size=_VOCABULARY,
        n_positions=40,
        n_embd=64,
        n_layer=2,
        n_head=4,
        initializer_range=0.1,
        use_cache=False,
    ),
    Architecture(
        "sentence_embedding",
        "transformers",
        "embedding",
        _SentenceEmbedding,
        tokens(_VOCABULARY, _LENGTH),
    ),
    Architecture(
        "siamese",
        "transformers",
        "one value",
        _Siamese,
        tokens(_VOCABULARY, _LENGTH, names=("input_ids", "input_ids_b")),
    ),
)
