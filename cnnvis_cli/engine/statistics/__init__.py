"""How feature maps are distributed, and how far apart two distributions are: Gram, Wasserstein, sliced Wasserstein."""

from cnnvis_cli.engine.statistics.base import Statistic, Summary, add, columns, smoothed
from cnnvis_cli.engine.statistics.gram import Gram
from cnnvis_cli.engine.statistics.sliced import Sliced, quantiles
from cnnvis_cli.engine.statistics.wasserstein import Wasserstein

STATISTICS: dict[str, type[Gram] | type[Wasserstein] | type[Sliced]] = {
    "gram": Gram,
    "wasserstein": Wasserstein,
    "sliced": Sliced,
}

__all__ = ["STATISTICS", "Gram", "Sliced", "Statistic", "Summary", "Wasserstein", "add", "columns", "quantiles", "smoothed"]
