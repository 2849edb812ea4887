"""The encoder of vision transformers. Tokens are sequence-first: (S, N, hidden_dim)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class MLPBlock(nn.Sequential):
    """Two linear layers with GELU in between.

    Args:
        in_dim: width of input and output.
        mlp_dim: width of the hidden layer.
        dropout_rate: probability with which values of both layers are zeroed while training.
    """

    def __init__(self, in_dim: int, mlp_dim: int, dropout_rate: float) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["linear_1"] = nn.Linear(in_dim, mlp_dim)
        layers["act"] = nn.GELU()
        layers["dropout_1"] = nn.Dropout(dropout_rate)
        layers["linear_2"] = nn.Linear(mlp_dim, in_dim)
        layers["dropout_2"] = nn.Dropout(dropout_rate)
        super().__init__(layers)
        self.init_weights()

    def init_weights(self) -> None:
        """Initializes the weights (Glorot & Bengio 2010), and the biases with almost zero."""
        for layer in self:
            if not isinstance(layer, nn.Linear):
                continue
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)


class EncoderBlock(nn.Module):
    """Self-attention and an MLP, each added to its input and with layer norm first.

    Args:
        num_heads: number of attention heads.
        hidden_dim: width of a token.
        mlp_dim: width of the hidden layer of the MLP.
        dropout_rate: probability with which values of outputs are zeroed while training.
        attention_dropout_rate: the same for attention weights.
    """

    def __init__(
        self, num_heads: int, hidden_dim: int, mlp_dim: int, dropout_rate: float, attention_dropout_rate: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln_1 = LayerNorm(hidden_dim)
        self.self_attention = nn.MultiheadAttention(hidden_dim, num_heads, dropout=attention_dropout_rate)
        self.dropout = nn.Dropout(dropout_rate)
        self.ln_2 = LayerNorm(hidden_dim)
        self.mlp = MLPBlock(hidden_dim, mlp_dim, dropout_rate)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = self.ln_1(input)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x) + input
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Adds position embeddings to tokens and passes them through encoder blocks and a last layer norm.

    Args:
        seq_length: number of tokens.
        num_layers: number of blocks.
        num_heads, hidden_dim, mlp_dim, dropout_rate, attention_dropout_rate: as for EncoderBlock.
    """

    def __init__(
        self,
        seq_length: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        mlp_dim: int,
        dropout_rate: float,
        attention_dropout_rate: float,
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(seq_length, 1, hidden_dim).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout_rate)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(num_layers):
            layers[f"layer_{i}"] = EncoderBlock(num_heads, hidden_dim, mlp_dim, dropout_rate, attention_dropout_rate)
        self.layers = nn.Sequential(layers)
        self.ln = LayerNorm(hidden_dim)

    def fix_positions(self, positions: torch.Tensor) -> None:
        """Replaces the learned position embeddings by fixed ones, (seq_length, 1, hidden_dim), which are no state."""
        del self.pos_embedding
        self.register_buffer("pos_embedding", positions, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))
