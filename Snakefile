"""The map of the audit: configuration, stages, and what is asked for by default."""

import os
import subprocess
import sys
import time
from shlex import join, quote

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from tailrisk.config.machine import gpus, program
from tailrisk.config.plan import AUDIT_TABLES, Plan
from tailrisk.errors import UserError

min_version("9.20")
started = time.time()
tell = [sys.executable, "-m", "tailrisk.cli"]

# A file given by --configfile stands alone; Snakemake would merge it into a default declared beside it.
if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


try:
    plan = Plan.of(config, ", ".join(map(str, workflow.configfiles)))
except UserError as error:
    raise WorkflowError(str(error))

# `tailrisk` is the package of the environment that runs Snakemake, activated or not; in an environment that jobs are
# given by `--sdm`, it is the one beside this file. A prefix replaces Snakemake's strict mode, so that is stated too: a
# stage that fails must fail through its pipe to the log. Jobs compute on one thread each: work spreads over jobs, and
# sums come out the same on machines with more or fewer cores. Memory that a step frees stays with the process for the
# next (glibc's two thresholds): a third of a CPU's time for images would else go into page faults. How models are run
# goes the same way and is no parameter of a job: it changes no result, so that an edit of it reruns nothing.
python = quote(sys.executable)
if workflow.deployment_settings.deployment_method:
    package = quote(os.path.join(workflow.basedir, "workflow"))
    python = f"env PYTHONPATH={package} python"
settings = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "TAILRISK_RUNNING": quote(plan.running),
}
exports = " ".join(f"{name}={value}" for name, value in settings.items())
prefix = f'set -euo pipefail; export {exports}; tailrisk() {{ {python} -m tailrisk.cli "$@"; }}; '
# SLURM tells every process of a job to end at once. The shell and the log then wait until a training has saved itself.
prefix += 'trap : TERM; tee() { trap "" TERM; command tee "$@"; }; '
shell.prefix(prefix.replace("{", "{{").replace("}", "}}"))

# On one machine as many training jobs run at once as there are GPUs; each then takes a GPU of its own. (On a cluster
# the number of jobs is given instead of cores, and the scheduler deals out its GPUs.)
if (
    workflow.resource_settings.cores
    and gpus()
    and "gpu" not in workflow.global_resources
):
    workflow.register_resource("gpu", len(gpus()))


wildcard_constraints:
    dataset=r"[a-z0-9_-]+",
    experiment=r"[a-z0-9_-]+(\.[a-z0-9_-]+\.[a-z0-9_-]+)?",
    comparison=r"[a-z0-9_-]+\.[a-z0-9_-]+",
    query=r"[a-z0-9_-]+",
    chunk=r"\d+-\d+",


include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/gather.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/artefact.smk"


# Of `--sdm apptainer` alone; how to build it says envs/apptainer.def.
container: "envs/tailrisk.sif"


rule all:
    default_target: True
    input:
        "results/report.html",


# Jobs of a cluster end here, too; only the run as a whole has something to tell.
onsuccess:
    # Only where this run wrote the report: older sentences may no longer hold.
    written = "results/headlines.json"
    if (
        workflow.is_main_process
        and os.path.exists(written)
        and os.path.getmtime(written) > started
    ):
        subprocess.run([*tell, "headlines", "results/report.html", written])


# After Snakemake's long lines, a short end: what failed, why, what is unfinished, and how to go on.
onerror:
    if workflow.is_main_process:
        again = join([program("snakemake"), *sys.argv[1:]])
        facts = [
            "--since",
            str(started),
            "--again",
            again,
            "--log",
            log[0] if log else "",
        ]
        subprocess.run([*tell, "failures", *facts], input=plan.page, text=True)
