"""Direct logit attribution finds the parts that write the answer, and its parts are a slow definition's."""

from functools import cache

import numpy as np
import pytest
import torch
from architectures import SERVED
from planting import planted
from small_models import plain_twin, prompt_ids, small_model

import workbench
from workbench.analyses import direct_logit_attribution
from workbench.prompts import Needles, Prompt, Prompts

FINAL_NORMS = {"GPT2": "transformer.ln_f", "GPTNeoX parallel": "gpt_neox.final_layer_norm"}
ROADS = ("GPT2", "Llama", "Gemma2", "Gemma3", "GPTNeoX parallel", "OLMo2", "Granite")
WAYS = ("components", "heads", "neurons", "source tokens")


@cache
def hooked(name: str):
    """A planted model, loaded into the workbench."""
    torch.set_num_threads(1)  # the models are so small that more threads only wait for each other
    return workbench.load(f"planted:{name}")


def residuals(result) -> dict[str, float]:
    """How far each sum is from the logit difference."""
    return {check.name.split(" add up")[0]: check.value for check in result.checks if " add up" in check.name}


def test_the_planted_copy_head_writes_the_answer_and_reads_it_at_the_needle():
    model = hooked("copy")
    needle = Needles.bundled()[0]
    words = needle.needle.split()
    result = direct_logit_attribution(model, Prompts.of(" ".join([*words, *words[:6]])))
    (copier,) = planted("copy").truth["copy"]
    best = result.tables["heads"][0]
    assert [best["layer"], best["number"]] == copier
    assert best["contribution"] > 0.75 * result.scalars["difference"] > 0
    assert best["contribution"] > 4 * best["random"]
    assert best["reads"] == result.tables["prompts"][0]["target"]
    assert best["from_there"] == pytest.approx(best["contribution"], rel=1e-5)
    assert result.named("token").values.argmax() == best["at"]
    silent = np.delete(result.named("head").values[1], [copier[1], planted("copy").truth["half_copy"][0][1]])
    assert abs(silent).max() < 1e-6


@pytest.mark.parametrize("fact", planted("tour").truth["neurons"][:3], ids=lambda fact: fact["token"])
def test_the_planted_neuron_of_the_answer_is_the_largest(fact):
    text = next(one.needle for one in Needles.bundled() if fact["token"] in one.needle.split())
    words = text.split()
    prompt = " ".join([*words, *words[: words.index(fact["token"])]])
    result = direct_logit_attribution(hooked("tour"), Prompts.of(prompt), target=fact["token"])
    best = result.tables["neurons"][0]
    assert (best["layer"], best["number"]) == (fact["layer"], fact["neuron"])
    assert best["contribution"] > 1.2 * abs(result.tables["neurons"][1]["contribution"])


def test_only_the_direct_way_is_counted():
    """In `late_hop` an MLP finds the home and a head carries it to the end: the head gets everything."""
    model = hooked("late_hop")
    prompts = Prompts.of(*(Prompt(**one) for one in late_hop_facts()))
    result = direct_logit_attribution(model, prompts)
    (mover,) = planted("late_hop").truth["mover"]
    assert result.scalars["top_head"] == "L{}.H{}".format(*mover)
    assert result.named("head").values[tuple(mover)] == pytest.approx(result.scalars["difference"], rel=1e-4)
    assert abs(result.named("component").values[1::2][:4]).max() < 1e-4
    assert (result.named("head_source").values[:, 0].argmax(-1) == 4).all()  # <bos> the home of PERSON is


def late_hop_facts() -> list[dict[str, str]]:
    """The first hops of the planted model, each against the home of the next person."""
    facts = planted("late_hop").truth["first_hop"]
    others = [fact["answer"] for fact in [*facts[1:], facts[0]]]
    return [
        {"text": fact["prompt"], "target": fact["answer"], "distractor": other}
        for fact, other in zip(facts, others, strict=True)
    ]


class SlowRoad:
    """The slow definition on a plain Hugging Face model: what reaches the logits of one part by itself.

    Each part is sent alone through the modules behind it, all norms divided by the size of the whole.
    """

    def __init__(self, name: str, ids: list[int], target: int, distractor: int):
        self.twin, self.architecture = plain_twin(name), next(one for one in SERVED if one.name == name)
        self.pair = target, distractor
        self.final = self.twin.get_submodule(FINAL_NORMS.get(name, "model.norm"))
        self.inputs: dict[torch.nn.Module, torch.Tensor] = {}
        watched = [self.final, *(self.module(layer, path) for layer in range(2) for path in self.paths)]
        handles = [one.register_forward_pre_hook(self.keep) for one in watched]
        with torch.no_grad():
            self.twin(torch.tensor([ids]), use_cache=False)
        for handle in handles:
            handle.remove()

    @property
    def paths(self) -> list[str]:
        parts = self.architecture.parts
        behind = [path for path in (parts.attn_out, parts.mlp_out) if path.endswith("layernorm")]
        return [parts.z, parts.mlp_post, *behind]

    def module(self, layer: int, path: str) -> torch.nn.Module:
        return self.twin.get_submodule(f"{self.architecture.parts.blocks}.{layer}.{path}")

    def keep(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self.inputs[module] = args[0][0, -1]

    def through(self, norm: torch.nn.Module, part: torch.Tensor) -> torch.Tensor:
        """A norm whose statistic is that of the whole that went into it."""
        whole = self.inputs[norm]
        if isinstance(norm, torch.nn.LayerNorm):
            return (part - part.mean()) / (whole.var(correction=0) + norm.eps).sqrt() * norm.weight
        epsilon = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        gain = norm.weight + 1 if "Gemma" in type(norm).__name__ else norm.weight
        return part / (whole.square().mean() + epsilon).sqrt() * gain

    def reading(self, part: torch.Tensor) -> float:
        """The logit difference of a final stream that holds this part alone."""
        first, second = self.twin.get_output_embeddings().weight[list(self.pair)].double()
        scaling = getattr(self.twin.config, "logits_scaling", 1.0)
        return float(self.through(self.final, part).double() @ (first - second)) / scaling

    @torch.no_grad()
    def units(self, layer: int, path: str, behind: str, count: int) -> list[float]:
        """Every head, or every neuron, of a layer by itself."""
        projection = self.module(layer, path)
        whole = self.inputs[projection]
        owner = torch.arange(len(whole)) // (len(whole) // count)
        nothing = projection(torch.zeros_like(whole)[None])[0]
        readings = []
        for unit in range(count):
            part = projection(whole.where(owner == unit, 0)[None])[0] - nothing
            if behind.endswith("layernorm"):
                part = self.through(self.module(layer, behind), part)
            readings.append(self.reading(part * self.architecture.parts.scale))
        return readings


@pytest.mark.parametrize("name", ROADS)
def test_heads_and_neurons_are_those_of_the_slow_definition(name):
    model, ids = small_model(name), prompt_ids()
    text = " ".join(f"w{index}" for index in ids)
    result = direct_logit_attribution(model, Prompts.of(text), target="w5", distractor="w6")
    road = SlowRoad(name, model.tokens(text).ids[0].tolist(), 5, 6)
    parts, shape = road.architecture.parts, model.shape
    heads = [road.units(layer, parts.z, parts.attn_out, shape.n_heads) for layer in range(2)]
    neurons = [road.units(layer, parts.mlp_post, parts.mlp_out, shape.d_mlp) for layer in range(2)]
    assert np.allclose(result.named("head").values, heads, atol=1e-5)
    assert np.allclose(result.named("neuron").values, neurons, atol=1e-5)


@pytest.mark.parametrize("name", ROADS)
def test_four_sums_are_the_logit_difference(name):
    model = small_model(name)
    result = direct_logit_attribution(model, Prompts.of("w9 w10 w11 w12"), target="w5", distractor="w6")
    assert tuple(residuals(result)) == WAYS
    assert max(residuals(result).values()) <= 1e-5
    assert result.passed
    logits = workbench.trace(model, "w9 w10 w11 w12", "logits@-1")["logits@-1"][0]
    if name == "Gemma2":  # behind the cap nothing is a sum
        assert any("soft cap" in note for note in result.notes)
        logits = 1.5 * (logits.double() / 1.5).atanh()
    assert result.scalars["difference"] == pytest.approx(float(logits[5] - logits[6]), rel=1e-4)


def test_components_of_several_prompts_are_means_with_intervals(tiny_model):
    prompts = Prompts.of("w5 w6 w7 w8", Prompt("w9 w10", target="w20"), "w11 w12 w13")
    result = direct_logit_attribution(tiny_model, prompts, distractor="w30", target="w31")
    single = [
        direct_logit_attribution(tiny_model, Prompts.of(one), distractor="w30", target="w31").named("component").values
        for one in prompts
    ]
    assert np.allclose(result.named("component").values, np.mean(single, axis=0), atol=1e-6)
    low, high = (result.named(f"component_{end}").values for end in ("lower", "upper"))
    assert (low - 1e-6 <= result.named("component").values).all()
    assert (result.named("component").values <= high + 1e-6).all()
    assert (low >= np.min(single, axis=0) - 1e-6).all()
    assert (high <= np.max(single, axis=0) + 1e-6).all()
    keys = result.named("token").values
    assert np.isnan(keys).sum(-1).tolist() == [0, 2, 1]


def test_the_baseline_is_the_size_of_the_same_part_for_random_tokens(tiny_model):
    """Few draws and the seed decide it; many draws come close to all pairs there are."""
    text, model = Prompts.of("w5 w6 w7"), tiny_model
    result = direct_logit_attribution(model, text, target="w9", distractor="w10", draws=4000)
    weight = model.bridge.original_model.get_output_embeddings().weight.double()
    traced = workbench.trace(model, text, ["L2.resid_post@-1", "L1.mlp_out@-1"])
    stream, part = traced["L2.resid_post@-1"][0].double(), traced["L1.mlp_out@-1"][0].double()
    norm = model.bridge.original_model.transformer.ln_f
    normed = (part - part.mean()) / (stream.var(correction=0) + norm.eps).sqrt() * norm.weight.double()
    written = weight @ normed
    pairs = (written[:, None] - written[None]).square().sum() / (len(written) * (len(written) - 1))
    place = result.named("component_random").names("component").index("L1.mlp_out")
    assert result.named("component_random").values[place] == pytest.approx(float(pairs.sqrt()), rel=0.05)


def test_what_the_model_says_is_the_target_when_none_is_named(tiny_model):
    result = direct_logit_attribution(tiny_model, Prompts.of("w5 w6 w7"))
    logits = workbench.trace(tiny_model, "w5 w6 w7", "logits@-1")["logits@-1"][0]
    assert result.tables["prompts"][0]["target"] == tiny_model.tokenizer.decode([int(logits.argmax())])
    assert result.scalars["difference"] == pytest.approx(float(logits.max() - logits.mean()), rel=1e-4)


def test_an_earlier_position_is_that_of_the_shorter_prompt(tiny_model):
    pair = {"target": "w9", "distractor": "w10"}
    whole = direct_logit_attribution(tiny_model, Prompts.of("w5 w6 w7 w8"), pos=2, **pair)
    cut = direct_logit_attribution(tiny_model, Prompts.of("w5 w6"), **pair)
    assert whole.named("token").names("key") == cut.named("token").names("key")
    for name in ("head", "component", "neuron", "source"):
        assert np.allclose(whole.named(name).values, cut.named(name).values, atol=1e-5), name


def test_experts_have_no_neurons_and_the_notes_say_so():
    result = direct_logit_attribution(small_model("Mixtral"), Prompts.of("w9 w10 w11"))
    assert "neurons" not in result.tables
    assert any("mixture of experts" in note for note in result.notes)
    assert result.passed


def test_a_target_of_several_tokens_is_refused_with_its_pieces(tiny_model):
    with pytest.raises(ValueError, match=r"'w5 w6' is 2 tokens .*\['w5', 'w6'\]"):
        direct_logit_attribution(tiny_model, Prompts.of("w5 w6"), target="w5 w6")


def test_a_target_that_is_the_distractor_is_refused(tiny_model):
    with pytest.raises(ValueError, match="target and distractor are the same token 'w5'"):
        direct_logit_attribution(tiny_model, Prompts.of("w5 w6"), target="w5", distractor="w5")


def test_a_position_outside_the_prompt_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"the prompt has 3 tokens \(positions 0-2\)"):
        direct_logit_attribution(tiny_model, Prompts.of("w5 w6"), pos=3)


@pytest.mark.parametrize("knob", ["top", "draws"])
def test_counts_below_one_are_refused(tiny_model, knob):
    with pytest.raises(ValueError, match=f"{knob} must be 1 or more, found 0"):
        direct_logit_attribution(tiny_model, Prompts.of("w5 w6"), **{knob: 0})


@pytest.mark.real
def test_an_indirect_object_is_split_exactly_in_a_real_model(real_model):
    prompt = Prompt("When Mary and John went to the store, John gave a drink to", target=" Mary", distractor=" John")
    result = direct_logit_attribution(real_model, Prompts.of(prompt))
    assert result.scalars["difference"] == pytest.approx(5.22, abs=0.01)
    assert max(residuals(result).values()) <= 1e-5
    assert result.passed
    best = result.tables["heads"][0]
    assert (best["head"], best["reads"]) == ("L11.H3", " John")  # it speaks against the name that it reads
    assert best["contribution"] == pytest.approx(4.37, abs=0.01)
    assert best["contribution"] > 3 * best["random"]
