"""The analyses, one file each; the file name is the name of the analysis everywhere."""

from workbench.analyses.back_patching import back_patching as back_patching
from workbench.analyses.direct_logit_attribution import direct_logit_attribution as direct_logit_attribution
from workbench.analyses.logit_lens import logit_lens as logit_lens
from workbench.analyses.retrieval_heads import retrieval_heads as retrieval_heads
