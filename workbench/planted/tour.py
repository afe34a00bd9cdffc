"""Tour: one model with something for every screen, in the text world of `copy`.

Layer 0 remembers the last four words, layer 1 does nothing, layer 2 finds and copies, and the MLP of
layer 3 has one neuron for each of a few words, which makes the model surer of a word that it is
about to say. Seen through the logit lens, the answer appears at layer 2 and grows at layer 3.
"""

from workbench.planted import Planted
from workbench.planted.copy import retrieval_truth, text_world, write_retrieval
from workbench.planted.copying import World, write_sink
from workbench.planted.llama import weight
from workbench.planted.vocabulary import split_words

_WORDS = split_words(
    "tangerine accordion ostriches parrots velodrome marzipan pancake lullabies violinist trombone sorbet "
    "horoscope gargoyles gherkins"
)
_BOOST = 0.5


def tour() -> Planted:
    """Build the tour model: 4 layers of 5 heads, about 3,500 words, 4,096 tokens of context.

    Truth, as [layer, head]. The heads of layers 0 and 2 are those of layers 0 and 1 of `copy`, and score the
    same. A text said twice is continued by the copy head too, from the fifth word of the second time
    on, so it is the `induction` head; on text that repeats no four words it rests on `<bos>`
    (`active_dormant`). All heads of layers 1 and 3 are sinks; the MLPs of layers 0, 1 and 2 add exactly
    nothing, so layer 1 can be skipped (`inert`). Seen through the final norm and the unembedding, the
    answer is the top word after layers 2 and 3 (`visible_from`) and not before. Each of `neurons`
    ({layer, neuron, token}) reads the unembedding of its token with its up row through a gate that is
    always open, and writes half of what it reads along the same word: set its up value to 10, and the
    model says the word.
    """
    world = text_world(layers=4)
    write_retrieval(world, memory_layer=0, copy_layer=2)
    for layer in (1, 3):
        for head in range(5):
            write_sink(world, layer, head)
    _write_word_neurons(world, layer=3)
    truth: dict[str, object] = {
        **retrieval_truth(world, memory_layer=0, copy_layer=2),
        "induction": [[2, 1]],
        "active_dormant": [[2, 1], [2, 3]],
        "sink": [[0, 4], [2, 2], *([layer, head] for layer in (1, 3) for head in range(5))],
        "inert": [1],
        "visible_from": 2,
        "neurons": [{"layer": 3, "neuron": neuron, "token": word} for neuron, word in enumerate(_WORDS)],
    }
    return Planted(world.model, world.tokenizer, truth)


def _write_word_neurons(world: World, layer: int) -> None:
    """Neuron i reads word i in `out` and writes it there again, at half the strength."""
    directions = world.codes[world.tokenizer.convert_tokens_to_ids(_WORDS)] @ world.stream.basis("out")
    opening = 10.0  # silu(10) is 10 to five digits
    weight(world.model, layer, "mlp.gate_proj")[: len(_WORDS)] = opening * world.stream.one
    weight(world.model, layer, "mlp.up_proj")[: len(_WORDS)] = directions
    weight(world.model, layer, "mlp.down_proj")[:, : len(_WORDS)] = _BOOST / opening * directions.T
