"""Model: a loaded decoder, its hook points as sites, and the proof that its numbers are right."""

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import checkpoint as files
from workbench.bridge import boot, share_weights
from workbench.checks import Capabilities, prove, refuse_broken_weights
from workbench.prompts import Prompt, Prompts
from workbench.shape import fingerprint, measure_shape
from workbench.sites import Places, places_of
from workbench.sources import find_source
from workbench.tokens import Tokens, encode, stack
from workbench.words import KINDS, Site

_LOG = logging.getLogger("workbench")
_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


@dataclass(frozen=True)
class Pass:
    """Which positions of which prompts the running forward pass computes."""

    lengths: tuple[int, ...]
    offset: int = 0
    cached: bool = False


class Model:
    """A decoder that can be traced and edited.

    One lock guards the hooks: whoever traces, edits or generates holds it, so two threads on one
    model never touch each other's numbers.

    Attributes:
        bridge: the TransformerBridge, for notebooks (library code uses sites).
        plain: an unhooked Hugging Face model over the same weights, with the fast attention kernel.
        capabilities: what can be served, and the self-checks.
    """

    def __init__(self, name: str, hf_model: Any, tokenizer: Any, revision: str | None, prepend_bos: bool | None):
        self.name = name
        self.revision = revision or getattr(hf_model.config, "_commit_hash", None)
        self.tokenizer = tokenizer
        self.lock = threading.RLock()
        self.current_pass: Pass | None = None
        self.passes = 0
        self.rehearsing = False  # a block runs that will run again in the same pass
        has_bos = tokenizer.bos_token_id is not None
        self.prepend_bos = has_bos if prepend_bos is None else prepend_bos and has_bos
        hf_model.eval()
        refuse_broken_weights(hf_model)
        self.parameters = sum(parameter.numel() for parameter in hf_model.parameters())
        self.fingerprint = fingerprint(hf_model, tokenizer)
        self.plain = share_weights(hf_model)
        self.bridge: Any = boot(getattr(hf_model, "name_or_path", "") or name, hf_model, tokenizer)
        self.places: Places = places_of(self.bridge, self._probe_ids())
        self.capabilities: Capabilities = prove(self.bridge, self.plain, self.places, self._probe_ids())
        with contextlib.suppress(ValueError):  # some architectures have the eager kernel only
            self.plain.set_attn_implementation("sdpa")
        self.shape = measure_shape(self.bridge, self.capabilities.sizes)

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.shape.n_layers} layers, {self.parameters / 1e6:.1f}M, {self.dtype})"

    @property
    def device(self) -> torch.device:
        """Where the embedding lives, and tokens must go."""
        return self.bridge.original_model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.bridge.original_model.parameters()).dtype

    @property
    def seconds_per_pass(self) -> float:
        """Seconds that a forward pass takes however little it reads, as measured at load (a rough guide to costs)."""
        return self.capabilities.seconds_per_pass

    @property
    def seconds_per_token(self) -> float:
        """Seconds that each token of a forward pass takes besides, as measured at load (a rough guide to costs)."""
        return self.capabilities.seconds_per_token

    def identity(self) -> dict:
        """Who this model is, as plain JSON: stored in every result."""
        return {
            "name": self.name,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "architecture": type(self.bridge.original_model).__name__,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            "parameters": self.parameters,
            "shape": vars(self.shape).copy(),
            "prepend_bos": self.prepend_bos,
            "checks": self.capabilities.describe()["checks"],
        }

    def tokens(self, prompts: Prompts | Prompt | str | Sequence[str]) -> Tokens:
        """Prompts as this model's tokens, on its device.

        Raises:
            ValueError: an empty prompt, or one longer than the model's context.
        """
        found = encode(self.tokenizer, prompts, prepend_bos=self.prepend_bos, vocabulary=self.shape.d_vocab)
        return self._fitting(found)

    def tokens_of(self, rows: Sequence[Sequence[int]]) -> Tokens:
        """Token ids as a batch. Raises ValueError when there is none, or one is outside the vocabulary."""
        if not rows or not all(rows):
            raise ValueError("no token id was given: every prompt needs at least one")
        outside = [index for row in rows for index in row if not 0 <= index < self.shape.d_vocab]
        if outside:
            raise ValueError(f"token ids must lie in 0-{self.shape.d_vocab - 1}, found {outside[0]}")
        return self._fitting(stack(self.tokenizer, rows))

    def token(self, text: str) -> int:
        """The id of a text that is exactly one token. Raises ValueError showing the pieces otherwise."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            pieces = [self.tokenizer.decode([index]) for index in ids]
            raise ValueError(f"{text!r} is {len(ids)} tokens for {self.name}, not one: {pieces}")
        return int(ids[0])

    def forward(
        self,
        ids: Int[Tensor, "batch pos"],
        *,
        lengths: tuple[int, ...] | None = None,
        cache: Any = None,
        keep: int = 0,
    ) -> Float[Tensor, "batch kept vocab"]:
        """Run the hooked model once.

        Args:
            ids: token ids, padded on the right.
            lengths: real lengths; without them every row is full.
            cache: a transformers key-value cache to read and extend.
            keep: logits of only the last `keep` positions (0 for all).
        """
        offset = cache.get_seq_length() if cache is not None else 0
        extra: dict[str, Any] = (
            {"past_key_values": cache, "use_cache": True} if cache is not None else {"use_cache": False}
        )
        if keep and self._keeps_logits:
            extra["logits_to_keep"] = keep
        current = Pass(lengths or (offset + ids.shape[1],) * ids.shape[0], offset, cached=cache is not None)
        with self.passing(current):
            logits = self.bridge(ids, **extra)
        return logits[:, -keep:] if keep else logits

    def run_plain(self, ids: Int[Tensor, "batch pos"], cache: Any) -> None:
        """Extend a cache with the unhooked model: no edit acts, and no logits but the last are made."""
        extra = {"logits_to_keep": 1} if self._keeps_logits else {}
        with self.lock:
            self.plain(ids, past_key_values=cache, use_cache=True, **extra)

    @contextlib.contextmanager
    def passing(self, current: Pass) -> Generator[None]:
        """Hold the lock and tell the edits which positions the running pass computes."""
        with self.lock:
            before, self.current_pass = self.current_pass, current
            self.passes += 1
            try:
                yield
            finally:
                self.current_pass = before

    def check_site(self, site: Site) -> None:
        """Raise ValueError when this model has no such site."""
        reason = self.capabilities.reason(site.kind)
        if reason is not None:
            raise ValueError(f"site {site}: {self.name} has no {site.kind}: {reason}")
        if site.layer is not None and not 0 <= site.layer < self.shape.n_layers:
            raise ValueError(f"site {site}: the model has {self.shape.n_layers} layers (0-{self.shape.n_layers - 1})")
        layers = self.capabilities.served.get(site.kind)
        if layers is not None and site.layer not in layers:
            why = self.capabilities.reasons.get(site.kind, "")
            raise ValueError(f"site {site}: only the layers {list(layers)} have {site.kind}: {why}".rstrip(": "))
        if site.feature is not None:
            raise ValueError(f"site {site}: features belong to a sparse coder, not to the model itself")
        limits = {"head": self.heads_at(site.kind), "neuron": self.shape.d_mlp}
        for unit, limit in limits.items():
            index = getattr(site, unit)
            if index is not None and not 0 <= index < limit:
                raise ValueError(f"site {site}: there are {limit} {unit}s (0-{limit - 1})")

    def heads_at(self, kind: str) -> int:
        """How many heads a kind of site has: query heads, or key-value heads for k and v."""
        return self.shape.n_kv_heads if "kv_head" in KINDS[kind] else self.shape.n_heads

    def _fitting(self, found: Tokens) -> Tokens:
        if max(found.lengths) > self.shape.n_ctx:
            raise ValueError(
                f"the prompt is {max(found.lengths)} tokens long, but {self.name} reads {self.shape.n_ctx}; "
                "it is not cut silently: shorten it"
            )
        return Tokens(found.ids.to(self.device), found.lengths, found.text, found.spans)

    @property
    def _keeps_logits(self) -> bool:
        import inspect

        return "logits_to_keep" in inspect.signature(type(self.bridge.original_model).forward).parameters

    def _probe_ids(self) -> Int[Tensor, " pos"]:
        vocabulary = self.bridge.original_model.get_input_embeddings().weight.shape[0]
        start = [self.tokenizer.bos_token_id] if self.prepend_bos else []
        ids = [*start, *((7 * step + 5) % vocabulary for step in range(1, 8))]
        return torch.tensor(ids, device=self.device)


def load(
    name: "str | Any",
    *,
    dtype: str | None = None,
    device: str = "auto",
    device_map: Any = None,
    revision: str | None = None,
    checkpoint: int | None = None,
    tokenizer: Any = None,
    prepend_bos: bool | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Load a decoder and prove that its hooked numbers are right.

    Args:
        name: a hub id, a local Hugging Face folder, a `.gguf` file, `gemma-3-270m`, a bundled model,
            `planted:<name>`, or a Hugging Face model object (then give `tokenizer` too).
        dtype: float32, bfloat16, float16 or float64; by default float32 on a CPU, else bfloat16.
        device: `auto` takes CUDA, then MPS, then the CPU.
        device_map: for several GPUs, as transformers takes it ("auto", or a dict).
        revision: branch, tag or commit of a hub model.
        checkpoint: training step of a model whose training was kept, such as `world-history`; its last by default.
        tokenizer: only with a model object.
        prepend_bos: put the beginning-of-sequence token in front of every prompt; by default
            whenever the tokenizer has one, as TransformerLens does.
        trust_remote_code: allow the model's own code to run. Never by default.

    Raises:
        ValueError: an architecture or checkpoint that cannot be served right, with the reason.
        FileNotFoundError: a folder or file that does not exist.
    """
    if not isinstance(name, str):
        if tokenizer is None:
            raise TypeError("a model object needs its tokenizer: load(model, tokenizer=...)")
        return Model(getattr(name, "name_or_path", "") or type(name).__name__, name, tokenizer, revision, prepend_bos)
    place = choose_device(device)
    if dtype is not None and dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown: allowed are {', '.join(_DTYPES)}")
    number = _DTYPES[dtype] if dtype else torch.float32 if place.type == "cpu" else torch.bfloat16
    if name.startswith("planted:"):
        from workbench.planted import plant

        if checkpoint is not None:
            raise ValueError(f"model {name} has no checkpoint {checkpoint}: it was built by hand")
        planted = plant(name.removeprefix("planted:"))
        return Model(name, planted.model.to(place, number), planted.tokenizer, None, prepend_bos)
    source = find_source(name, revision, checkpoint)
    config = files.read_config(source, trust_remote_code)
    cost = files.count_cost(source, config, number, trust_remote_code)
    _LOG.info("loading %s: %s", name, cost)
    if device_map is None:
        files.refuse_too_large(cost, place)
    files.check_weight_files(source)
    words = files.read_tokenizer(source, trust_remote_code)
    hf_model = files.read_weights(source, config, number, trust_remote_code, device_map)
    hf_model.requires_grad_(requires_grad=False)
    hf_model = hf_model if device_map is not None else hf_model.to(place)
    return Model(name, hf_model, words, source.variant or revision, prepend_bos)


def choose_device(device: str) -> torch.device:
    """The device for a word; `auto` takes CUDA, then MPS, then the CPU."""
    if device == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown: allowed are auto, cpu, cuda, cuda:0, mps") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, but this machine has no CUDA device")
    return chosen
