"""Late hop: a two-hop question whose second step sits below the first, so that it is never asked in time.

"the capital of the home of ann is": the MLP of layer 3 knows that ann's home is norland, the MLP of
layer 1 knows that norland's capital is ardun, and a head of layer 4 moves what is known about the
entity to the end. A single pass says the home. Put the entity's stream after layer 3, 4 or 5 back in
after layer 0, and layer 1 reads the home in time: the model says the capital.
"""

from workbench.planted import Planted
from workbench.planted.llama import CONTEXT, Head, Stream, blank_llama, look_up
from workbench.planted.vocabulary import BOS, EOS, SPECIAL, word_tokenizer

_PEOPLE = ["ann", "bob", "cleo", "dan", "eve", "finn"]
_HOMES = ["norland", "sorvia", "tamrek", "ulvania", "westmark", "yorrin"]
_CAPITALS = ["ardun", "belqa", "corvel", "dimsk", "estral", "fenwik"]
_GLUE = ["the", "of", "is", "home", "capital"]


def late_hop() -> Planted:
    """Build the two-hop model: 6 layers of 2 heads, 6 people with their homes and capitals.

    Truth. `questions` hold the prompt, the entity (one token, before " is"), the bridge and the answer; the
    model answers both single hops rightly (`first_hop`, `second_hop`), says the bridge to the
    two-hop prompt, and then `<eos>`. Writing the `resid_post` of a source layer over the `resid_post`
    of a target layer at the entity makes the answer the next word for exactly the pairs [source,
    target] in `success`, and at the last position for none. Head [4, 0] (`mover`) attends from "is"
    to the entity and elsewhere to `<bos>`; no other head and no MLP but those of layers 1
    (`second_hop_layer`) and 3 (`first_hop_layer`) writes anything.
    """
    words = [*_PEOPLE, *_HOMES, *_CAPITALS, *_GLUE]
    count = len(_PEOPLE)
    tokenizer = word_tokenizer(words, CONTEXT)
    stream = Stream(
        2,
        start=1,
        asks=1,
        entity=1,
        person=count,
        home=count,
        capital=count,
        said_home=count,
        said_capital=count,
    )
    model = blank_llama(stream, vocabulary=len(tokenizer), layers=6, heads=2, d_head=64)
    place = {word: tokenizer.convert_tokens_to_ids(word) for word in words}
    embedding, unembedding = model.model.embed_tokens.weight.data, model.lm_head.weight.data
    embedding[BOS] += stream.basis("start")[0]
    embedding[place["is"]] += stream.basis("asks")[0]
    people, homes = len(SPECIAL), len(SPECIAL) + count
    embedding[people : homes + count] += stream.basis("person", "home") + stream.basis("entity")
    unembedding[homes : homes + count] = 10 * stream.basis("said_home")
    unembedding[homes + count : homes + 2 * count] = 40 * stream.basis("said_capital")
    unembedding[EOS] = 5 * stream.one[0]

    look_up(model, 1, stream.one, read=stream.basis("home"), write=stream.basis("capital"))
    look_up(model, 3, stream.one, read=stream.basis("person"), write=stream.basis("home"))
    mover = Head(model, 4, 0).attend(stream.basis("asks"), stream.basis("entity"), 80.0)
    mover.attend(stream.one, stream.basis("start"), 40.0)
    mover.carry(stream.basis("home", "capital"), stream.basis("said_home", "said_capital"))
    return Planted(model, tokenizer, _truth())


def _truth() -> dict[str, object]:
    facts = list(zip(_PEOPLE, _HOMES, _CAPITALS, strict=True))
    return {
        "questions": [
            {
                "prompt": f"the capital of the home of {person} is",
                "entity": person,
                "bridge": home,
                "answer": capital,
            }
            for person, home, capital in facts
        ],
        "first_hop": [{"prompt": f"the home of {person} is", "answer": home} for person, home, _ in facts],
        "second_hop": [{"prompt": f"the capital of {home} is", "answer": capital} for _, home, capital in facts],
        "success": [[3, 0], [4, 0], [5, 0]],
        "first_hop_layer": 3,
        "second_hop_layer": 1,
        "mover": [[4, 0]],
    }
