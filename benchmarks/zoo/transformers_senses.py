"""Models of transformers that see and hear, and recurrent ones, from few small layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.architecture import Architecture, Draw
from zoo.inputs import images, sounds, spectrograms
from zoo.transformers_text import hugging_face

__all__ = ["SENSES"]

_VIT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
_PIXELS = images(64, name="pixel_values")


class _WhisperEncoder(nn.Module):
    """The encoder of Whisper, whose features a decoder reads."""

    def __init__(self) -> None:
        super().__init__()
        whole = hugging_face(
            "WhisperConfig",
            "WhisperModel",
            vocab_size=100,
            num_mel_bins=32,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            d_model=64,
            max_source_positions=20,
            max_target_positions=20,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
        self.encoder: Any = whole.encoder

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return features by time."""
        found: torch.Tensor = self.encoder(input_features).last_hidden_state
        return found


class _RecurrentSpeech(nn.Module):
    """Convolutions, two bidirectional GRUs and letters by time, as DeepSpeech 2 has them.

    Source: Amodei et al., "Deep Speech 2", ICML 2016 (arXiv 1512.02595). In plain torch: no package
    brings one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(32, 64, 5, stride=2, padding=2),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Conv1d(64, 64, 5, padding=2),
            nn.BatchNorm1d(64),
            nn.ReLU(),
        )
        self.recurrent = nn.GRU(64, 48, num_layers=2, bidirectional=True, batch_first=True)
        self.letters = nn.Linear(96, 29)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return log probabilities [n, time, letters] of features [n, 32, time]."""
        found = self.convolutions(features).transpose(1, 2)
        letters: torch.Tensor = self.letters(self.recurrent(found)[0])
        return letters.log_softmax(-1)


def _seeing(
    name: str, gives: str, config: str, model: str, draw: Draw = _PIXELS, **settings: Any
) -> Architecture:
    build = partial(hugging_face, config, model, **settings)
    return Architecture(name, "transformers", gives, build, draw)


def _detr() -> nn.Module:
    """Build DETR on a ResNet of four blocks."""
    from transformers import ResNetConfig

    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    layers = {f"{side}_{what}": count for side in ("encoder", "decoder") for what, count in _DETR}
    return hugging_face(
        "DetrConfig",
        "DetrForObjectDetection",
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=backbone,
        num_queries=8,
        num_labels=5,
        d_model=64,
        auxiliary_loss=False,
        **layers,
    )


_DETR = (("layers", 2), ("attention_heads", 4), ("ffn_dim", 128))
_WAV2VEC2: dict[str, Any] = {
    "vocab_size": 32,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

SENSES = (
    _seeing(
        "segformer",
        "masks",
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        num_encoder_blocks=3,
        depths=[1, 1, 1],
        sr_ratios=[4, 2, 1],
        hidden_sizes=[16, 32, 64],
        patch_sizes=[7, 3, 3],
        strides=[4, 2, 2],
        num_attention_heads=[1, 2, 4],
        mlp_ratios=[2, 2, 2],
        decoder_hidden_size=32,
        num_labels=5,
    ),
    Architecture("detr", "transformers", "boxes and scores", _detr, _PIXELS),
    _seeing(
        "clip_vision",
        "embedding",
        "CLIPVisionConfig",
        "CLIPVisionModelWithProjection",
        **_VIT,
        image_size=64,
        patch_size=16,
        projection_dim=32,
    ),
    _seeing(
        "wav2vec2",
        "logits over time",
        "Wav2Vec2Config",
        "Wav2Vec2ForCTC",
        sounds(1600),
        **_VIT,
        **_WAV2VEC2,
    ),
    Architecture(
        "whisper_encoder",
        "transformers",
        "token features",
        _WhisperEncoder,
        spectrograms(32, 40, name="input_features"),
    ),
    Architecture(
        "gru_speech",
        "torch",
        "logits over time",
        _RecurrentSpeech,
        spectrograms(32, 48, name="features"),
    ),
)
