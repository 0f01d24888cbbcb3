"""The map of the audit: configuration, stages, and what is asked for by default."""

import os
import sys
import time
from shlex import quote

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from tailrisk.config.plan import AUDIT_TABLES, Plan
from tailrisk.errors import UserError

min_version("9.20")
started = time.time()

# A file given by --configfile stands alone; Snakemake would merge it into a default declared beside it.
if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


try:
    plan = Plan.of(config, ", ".join(map(str, workflow.configfiles)))
except UserError as error:
    raise WorkflowError(str(error))

# Jobs find `tailrisk` in the environment that runs Snakemake, activated or not, and compute on one thread each:
# work spreads over jobs, and sums come out the same on machines with more or fewer cores. A prefix replaces
# Snakemake's strict mode, so that is stated too: a stage that fails must fail through its pipe to the log.
# Memory that a step frees stays with the process for the next (glibc's two thresholds): a third of a CPU's time for
# images would else go into page faults. How models are run goes the same way and is no parameter of a job: it changes
# no result, so that an edit of it reruns nothing.
environment = quote(os.path.dirname(sys.executable))
running = quote(plan.running.replace("{", "{{").replace("}", "}}"))
shell.prefix(
    f"set -euo pipefail; export PATH={environment}:$PATH OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=1073741824 "
    f"MALLOC_TRIM_THRESHOLD_=2147483647 TAILRISK_RUNNING={running}; "
)


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


rule all:
    default_target: True
    input:
        "results/report.html",


onsuccess:
    # Only where this run wrote the report: older sentences may no longer hold.
    if (
        os.path.exists("results/headlines.json")
        and os.path.getmtime("results/headlines.json") > started
    ):
        shell("tailrisk headlines results/report.html results/headlines.json")
