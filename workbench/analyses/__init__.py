"""The analyses, one file each; the file name is the name of the analysis everywhere."""

from workbench.analyses.activation_patching import activation_patching as activation_patching
from workbench.analyses.attention_knockout import attention_knockout as attention_knockout
from workbench.analyses.attention_patterns import attention_patterns as attention_patterns
from workbench.analyses.back_patching import back_patching as back_patching
from workbench.analyses.circuit_ablation import circuit_ablation as circuit_ablation
from workbench.analyses.circuit_check import circuit_check as circuit_check
from workbench.analyses.direct_logit_attribution import direct_logit_attribution as direct_logit_attribution
from workbench.analyses.edited_generation import edited_generation as edited_generation
from workbench.analyses.entity_description import entity_description as entity_description
from workbench.analyses.feature_card import feature_card as feature_card
from workbench.analyses.feature_search import feature_search as feature_search
from workbench.analyses.feature_steering import feature_steering as feature_steering
from workbench.analyses.induction_heads import induction_heads as induction_heads
from workbench.analyses.logit_lens import logit_lens as logit_lens
from workbench.analyses.neuron_activity import neuron_activity as neuron_activity
from workbench.analyses.neuron_clamp import neuron_clamp as neuron_clamp
from workbench.analyses.neuron_overlap import neuron_overlap as neuron_overlap
from workbench.analyses.neuron_search import neuron_search as neuron_search
from workbench.analyses.neuron_vocabulary import neuron_vocabulary as neuron_vocabulary
from workbench.analyses.qk_attribution import qk_attribution as qk_attribution
from workbench.analyses.retrieval_heads import retrieval_heads as retrieval_heads
from workbench.analyses.sae_features import sae_features as sae_features
from workbench.analyses.sublayer_projections import sublayer_projections as sublayer_projections
from workbench.analyses.task_accuracy import task_accuracy as task_accuracy
from workbench.analyses.transcoder_circuit import transcoder_circuit as transcoder_circuit
from workbench.analyses.transcoder_quality import transcoder_quality as transcoder_quality
