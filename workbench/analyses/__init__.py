"""The analyses, one file each; the file name is the name of the analysis everywhere.

Example:
    >>> from workbench.analyses import logit_lens
    >>> logit_lens.__name__
    'logit_lens'
"""

from workbench.analyses.logit_lens import logit_lens as logit_lens
from workbench.analyses.retrieval_heads import retrieval_heads as retrieval_heads
