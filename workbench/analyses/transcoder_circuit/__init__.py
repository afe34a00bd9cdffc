"""Transcoder circuit: which features of the MLPs, through which paths, make the model say what it says.

Idea. A transcoder splits what an MLP writes into a few features. With attention patterns and norm scales held as
they were, everything between features is linear, so the logit and every feature's pre-activation is a sum of
signed shares: of earlier features, of what the transcoders miss, of tokens, positions and biases.
Score. An edge is the share in the unit of its target (logits, or activation), any sign; each row adds up to the
value that it explains, and `accounting` shows it. The product along a path is what its source adds that way.
Influence, replacement and completeness are circuit-tracer's (unsigned shares, 0 to 1). The faithfulness curve is
the target's value after ablating the most influential features in the running model.
Differs from the paper. Rows are exact and complete: biases, learned positions and the MLP outputs at the first
position have columns, negative edges and paths are kept, the best paths are found exactly instead of by a greedy
beam, and the choice of nodes depends on no batch size. Random features that write as much are the baseline.
Beware. Why a head looks where it looks is not explained: patterns are held. A graph explains no more than its
transcoders do: look at the share of errors first. A frozen share is not what an ablation does, which the curve
measures. Features active on few prompts may mean anything. A head that hands something over last need not be the
one that found it.
Reference: Dunefsky et al. 2024, arXiv 2406.11944, and Ameisen et al. 2025, "Circuit Tracing"; authors' code:
consulted for its definitions.
"""

from workbench.analyses.transcoder_circuit.telling import tell
from workbench.analyses.transcoder_circuit.tracing import Settings, trace_circuit
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out", "v", "pattern")


@analysis(title="Transcoder circuit", family="circuits", reference="arXiv:2406.11944")
def transcoder_circuit(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    target: str = "",
    against: str = "",
    pos: int = -1,
    mass: float = 0.95,
    most: int = 10,
    max_nodes: int = 500,
    node_threshold: float = 0.8,
    edge_threshold: float = 0.98,
    paths: int = 20,
    similarity: float = 0.6,
    keep_first: bool = True,
    draws: int = 5,
    seed: int = 0,
) -> Result:
    """Trace which features, tokens and errors make a logit, with signs, and how much of it they explain.

    Args:
        model: a loaded model.
        prompts: one prompt.
        coders: transcoders: a folder, `saelens:<release>/<id>`; empty for a planted or bundled model's own.
        target: the token to explain (exactly one token); empty for the prompt's own, or else the likeliest ones.
        against: a token to compare it with; empty for the prompt's own distractor, or else the vocabulary's mean.
        pos: the position at which the model speaks; negative counts from the end.
        mass: without a target, as many tokens are explained as reach this probability, 0 to 1.
        most: without a target, at most this many tokens, 1 or more.
        max_nodes: how many features may be nodes, those of the largest influence; others stay in the accounting.
        node_threshold: share of influence that the nodes drawn must have, 0 to 1.
        edge_threshold: share of influence that the edges drawn must have, 0 to 1.
        paths: how many paths to list, 1 or more.
        similarity: how alike features at one position must be to be one supernode, -1 to 1.
        keep_first: keep the MLPs' outputs at the first position whole, where activations are huge and say little.
        draws: random orders of features to ablate for comparison, 1 or more.
        seed: seed of the random orders.

    Returns:
        Result with `error_share` and `active` ([layer, pos]), `ablated`, `ablated_random` and its range
        ([step]), `carried` ([layer, head]), and the tables `nodes`, `edges`, `accounting`, `paths`, `features`,
        `targets`, `carriers`, `supernodes` and `supernode_edges`. Nodes have circuit-tracer's ids;
        `workbench.circuits.circuit_of_result` makes its file. The arrays `graph_...` hold the whole graph
        (`workbench.circuits.graph_of_result`).
    """
    asked = (coders, target, against, pos, mass, most, max_nodes, node_threshold, edge_threshold, paths, similarity)
    settings = Settings(*asked, keep_first, draws, seed)
    return tell(model, trace_circuit(model, prompts, settings), settings)


def cost(model: Model, prompts: Prompts, *, draws: int, **_others: object) -> Cost:
    """One pass for the graph, one for the positions, and the ablations; the sweep itself comes on top."""
    length = max(model.tokens(prompts).lengths)
    ablations = 7 * (1 + draws)
    shape = model.shape
    patterns = shape.n_layers * shape.n_heads * length**2
    streams = 6 * shape.n_layers * shape.d_model * length
    return Cost(
        passes=2 + ablations // 16 + 1, tokens=length * (2 + ablations), bytes=4 * (patterns + streams) + 300_000_000
    )
