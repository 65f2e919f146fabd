"""Shape of the model: the one place where its sizes are named."""

from dataclasses import asdict, dataclass, field, fields

from regulonformer.errors import InputError, refuse_unknown_keys

# Kinds of layers, and what their slots are; in words for card and report.
LAYER_KINDS = {
    "regulon": "one slot per regulon, pooled from the TF and its targets with weights that start from the prior",
    "tf": "free slots, pooled from the TFs alone",
    "explorer": "free slots, pooled from all genes",
}
# What the loss of a hidden entry is, by what the heads predict.
LOSSES = {
    "counts": "nats per hidden count, negative binomial",
    "values": "Huber loss per hidden value",
    "bins": "nats per hidden value, cross-entropy over its bins",
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Regulonformer.

    Attributes
    ----------
    width
        Width D of token states.
    heads
        Attention heads H; divides `width`.
    layers
        Kind of each layer, from the input up: `regulon` (a slot per regulon), `tf` (free slots that read TFs alone) or
        `explorer` (free slots that read all genes).
    slots
        Slots S of a `tf` or `explorer` layer (a regulon layer has one per regulon).
    feed_forward
        Width of the feed-forward layer as a multiple of `width`.
    dropout
        Dropout on both residual branches.
    value_bins
        Learned support points K of the value embedding, per modality.
    value_max
        Value (log1p counts per 10,000) of the last support point.
    linear_path
        Add principal components of the input to the cell embedding, through a learned linear layer.
    fusion
        Encode each modality alone and fuse the embeddings; a student stands in for one that is missing (`Fusion`).
    predicts
        What the heads give of a hidden entry: `counts`, `values` or `bins` of values. The objective decides.
    """

    width: int = 64
    heads: int = 4
    layers: list[str] = field(default_factory=lambda: ["regulon", "explorer", "regulon", "explorer"])
    slots: int = 64
    feed_forward: int = 2
    dropout: float = 0.0
    value_bins: int = 16
    value_max: float = 10.0
    linear_path: bool = True
    fusion: bool = False
    predicts: str = "counts"

    def __post_init__(self):
        unknown = [kind for kind in self.layers if kind not in LAYER_KINDS]
        kinds = ", ".join(LAYER_KINDS)
        if unknown:
            raise InputError("model.layers", f"unknown layer kind {unknown[0]!r}", f"Use one of {kinds}")
        if not self.layers:
            raise InputError("model.layers", "no layer is named", f"List at least one of {kinds}")
        if self.width % self.heads:
            raise InputError(
                "model.heads", f"{self.heads} does not divide the width {self.width}", "Change one of them"
            )

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Build from plain builtins; an unknown key is an error, never ignored.

        Raises
        ------
        InputError
            If a key is unknown, a layer kind is unknown or `heads` does not divide `width`.
        """
        refuse_unknown_keys(values, [item.name for item in fields(cls)], "model")
        return cls(**values)

    def to_dict(self) -> dict:
        """Return plain builtins, for JSON."""
        return asdict(self)
