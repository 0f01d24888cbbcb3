"""The jobs of the small study that follow from an edit, as a dry run lists them: rule → wildcards of its jobs."""

ALL = ["mine.own.lr", "size.bc.lr", "size.bc.net"]
CHUNKS = ["0-3", "4-7"]
REPORT = {"report": [""]}
FIRST = {"mine.own.lr", "size.bc.lr", "mine.sim.lr"}  # of their datasets: their groups are compared


def training(*experiments: str, chunks: list[str] = CHUNKS) -> dict[str, list[str]]:
    return {"train": [f"{experiment}, {chunk}" for experiment in experiments for chunk in chunks]}


def gathering(*experiments: str) -> dict[str, list[str]]:
    return {"gather": [f"{experiment}, clean" for experiment in experiments], "performance": list(experiments)}


def drawing(*experiments: str) -> dict[str, list[str]]:
    """Figures and what follows from them."""
    jobs = {"audit_figures": [f"{experiment}, clean" for experiment in experiments]} | REPORT
    if any(experiment.startswith("size") for experiment in experiments):
        jobs |= {"comparison_figures": ["size.bc, clean"]}
    if FIRST & set(experiments):
        jobs |= {"group_figures": [""]}
    return jobs


def auditing(*experiments: str) -> dict[str, list[str]]:
    """The audit and what follows from it."""
    jobs = {"audit": [f"{experiment}, clean" for experiment in experiments]} | drawing(*experiments)
    if any(experiment.startswith("size") for experiment in experiments):
        jobs |= {"capacity": ["size.bc, clean"], "stability": ["bc"]}
    if FIRST & set(experiments):
        jobs |= {"groups_across_datasets": [""]}
    return jobs
