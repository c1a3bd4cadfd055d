"""Evolution of images: selection and variation against a network that is only ever asked for probabilities.

`Evolution` is the loop, `Archive` keeps the elites, `Lineage` knows where they came from. What an individual is decides its
encoding (`direct`, `cppn`, `shapes`); who judges it is an `BlackBox`, any callable from 8-bit images to probabilities.
"""

from cnnvis_cli.engine.evolution.archive import Archive
from cnnvis_cli.engine.evolution.black_box import BlackBox, NetworkBox, QueriesSpent, probabilities_of
from cnnvis_cli.engine.evolution.cppn import Cppn
from cnnvis_cli.engine.evolution.direct import Direct
from cnnvis_cli.engine.evolution.encoding import Encoding, Genome
from cnnvis_cli.engine.evolution.lineage import Individual, Lineage
from cnnvis_cli.engine.evolution.loop import Evolution, Generation, Strategy
from cnnvis_cli.engine.evolution.shapes import Shapes

__all__ = [
    "Archive",
    "BlackBox",
    "Cppn",
    "Direct",
    "Encoding",
    "Evolution",
    "Generation",
    "Genome",
    "Individual",
    "Lineage",
    "NetworkBox",
    "QueriesSpent",
    "Shapes",
    "Strategy",
    "probabilities_of",
]
