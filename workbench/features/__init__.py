"""Features of sparse coders: an index of where they are active in a corpus, and their connections by weights alone."""

from workbench.features.excerpts import Example as Example
from workbench.features.excerpts import Excerpt as Excerpt
from workbench.features.excerpts import examples_of as examples_of
from workbench.features.excerpts import read_excerpts as read_excerpts
from workbench.features.gathering import EDGES as EDGES
from workbench.features.index import FeatureIndex as FeatureIndex
from workbench.features.index import Recipe as Recipe
from workbench.features.index import build_index as build_index
from workbench.features.index import open_index as open_index
from workbench.features.opening import fitted_coders as fitted_coders
from workbench.features.opening import index_for as index_for
from workbench.features.opening import refuse_other_feature as refuse_other_feature
from workbench.features.passages import Passages as Passages
from workbench.features.wiring import Wiring as Wiring
from workbench.features.wiring import embedded as embedded
