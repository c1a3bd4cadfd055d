"""`cnnvis patches`: the patches of many pictures that excite each unit most, cut where the unit can see."""

from __future__ import annotations

from collections import Counter

from cnnvis_cli.commands.units.top import draw, in_rows, save_table, search
from cnnvis_cli.config.patches import PatchesConfig
from cnnvis_cli.engine.locality.receptive_field import receptive_fields
from cnnvis_cli.engine.network.activations import middle_layer
from cnnvis_cli.engine.optim.objective_syntax import parse_numbers
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.sheet import sheet


def run(config: PatchesConfig, job: Job) -> None:
    network = job.inputs.network(config)
    layer = config.layer or middle_layer(network)
    count = network.layer(layer).channels
    default = PatchesConfig.model_fields["channel"].default
    few = f"0-{count - 1}" if config.channel == default and count <= int(default.rpartition("-")[2]) else config.channel
    units = parse_numbers(few, count, f"channel of {layer}")
    job.record.shows(layers=[layer])
    sources = find_pictures(config.images)
    field = receptive_fields(network)[network.layer(layer).name]
    if field.approximate:
        job.warn(f"what units of {layer} see is approximate: {', '.join(field.approximate)} is not in the table of operators.")
    found = search(
        job, network, layer, units, sources, count=config.count, batch=config.batch, crop=config.crop
    )  # fmt: skip
    rows = draw(job, network, layer, found, crop=config.crop, slopes=config.slopes)
    # A result that is named by itself is named by the layer that was found for it too.
    suffix = "" if config.layer or config.name else layer
    job.results.save_image(sheet(*in_rows(rows, config.slopes), columns=max(map(len, rows))).image, suffix)
    save_table(job, rows, f"{suffix}-patches".strip("-"))
    job.scores.update(
        layer=layer, units=len(units), pictures=len(sources) - len(job.inputs.skipped), left_out=len(job.inputs.skipped)
    )
    job.scores["receptive_field"] = list(field.size) if field.size else None  # rows, columns; None: the whole picture
    job.scores["mean_of_best"] = float(sum(row[0].value for row in found) / len(found))
    if len({source.label for source in sources}) > 1:
        # How much of a unit's row is of one class: 1 for a unit that answers to one class alone.
        labels = [[patch.source.label for patch in row] for row in found]
        shares = [Counter(row).most_common(1)[0][1] / len(row) for row in labels]
        job.scores["share_of_one_class"] = sum(shares) / len(shares)
