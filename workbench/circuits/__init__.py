"""Circuits: exact attribution graphs over transcoder features, their pruning, paths, interventions and files.

Example:
    >>> from workbench import load, load_coders
    >>> model, coders = load("planted:sparse_mlp"), load_coders("planted:sparse_mlp")
    >>> run = freeze_run(model, model.tokens("stone red cat"))
    >>> graph = explain(run, coders, top_logits(model, run))
    >>> graph.account()[0]["missing"] < 1e-5
    True
    >>> [graph.column_name(column) for column in find_paths(graph, ends=["token"])[0].columns]
    ["token 'red'@2", 'L0.F0@3', 'L1.F0@3']
"""

from workbench.circuits.blind import blind_case as blind_case
from workbench.circuits.blind import blind_nodes as blind_nodes
from workbench.circuits.blind import reveal as reveal
from workbench.circuits.blind import suppose as suppose
from workbench.circuits.blind import with_verdict as with_verdict
from workbench.circuits.exchange import circuit_of as circuit_of
from workbench.circuits.exchange import circuit_of_result as circuit_of_result
from workbench.circuits.exchange import read_circuit as read_circuit
from workbench.circuits.exchange import save_circuit as save_circuit
from workbench.circuits.faithfulness import ablate_by_influence as ablate_by_influence
from workbench.circuits.frozen import freeze_run as freeze_run
from workbench.circuits.graph import AttributionGraph as AttributionGraph
from workbench.circuits.graph import explain as explain
from workbench.circuits.interventions import Clamp as Clamp
from workbench.circuits.interventions import frozen_effects as frozen_effects
from workbench.circuits.interventions import measure as measure
from workbench.circuits.loadings import load_heads as load_heads
from workbench.circuits.looking import freeze_look as freeze_look
from workbench.circuits.paths import find_paths as find_paths
from workbench.circuits.pruning import prune as prune
from workbench.circuits.pruning import score as score
from workbench.circuits.pruning import strongest as strongest
from workbench.circuits.scores import split_score as split_score
from workbench.circuits.stored import graph_of_result as graph_of_result
from workbench.circuits.sufficiency import take_away as take_away
from workbench.circuits.supernodes import Supernode as Supernode
from workbench.circuits.supernodes import alike as alike
from workbench.circuits.supernodes import group as group
from workbench.circuits.supernodes import with_supernodes as with_supernodes
from workbench.circuits.targets import difference_target as difference_target
from workbench.circuits.targets import direction_target as direction_target
from workbench.circuits.targets import feature_target as feature_target
from workbench.circuits.targets import token_targets as token_targets
from workbench.circuits.targets import top_logits as top_logits
