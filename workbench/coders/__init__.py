"""Sparse coders: load, save, fit and attach transcoders and sparse autoencoders; the only package with SAELens."""

from workbench.coders.attaching import Attached as Attached
from workbench.coders.attaching import attach as attach
from workbench.coders.circuit_tracer import save_circuit_tracer as save_circuit_tracer
from workbench.coders.coder import Transcoder as Transcoder
from workbench.coders.coder import Transcoders as Transcoders
from workbench.coders.fitting import fit as fit
from workbench.coders.loading import load_coders as load_coders
from workbench.coders.loading import load_named_or_own as load_named_or_own
from workbench.coders.loading import load_transcoders as load_transcoders
from workbench.coders.saelens import save_saelens as save_saelens
