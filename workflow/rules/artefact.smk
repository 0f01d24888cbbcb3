"""The archive that a paper would publish; docs/artefact.md says what is in it."""

from pathlib import Path

from tailrisk.stages.checkout import digest


rule artefact:
    input:
        rules.report.input,
        rules.report.output,
        rules.audits.input,
        rules.confidences.input,
    output:
        "results/artefact.tar.gz",
    log:
        "results/logs/artefact.log",
    benchmark:
        "results/benchmarks/artefact.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        study=lambda wildcards: plan.page,
        # Of all code that is packed. Where the checkout lies, which the package knows, changes nothing.
        code=lambda wildcards: digest(Path(workflow.basedir)),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "artefact --study {params.study:q} --results results --output {output} 2>&1 | tee {log}"
