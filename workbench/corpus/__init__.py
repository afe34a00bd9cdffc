"""A corpus of English prose from the documentation packages of Debian, for training coders and for held-out tests.

Nothing of it ships with the workbench: `build` fetches the packages with apt and writes a text file that the user
names. Every package is free by Debian's guidelines; the record beside the text says which, and under what licence.
"""

from workbench.corpus.building import Corpus as Corpus
from workbench.corpus.building import build as build
from workbench.corpus.packages import PACKAGES as PACKAGES
from workbench.corpus.packages import Package as Package
from workbench.corpus.packages import chosen as chosen
