"""The archive that a paper would publish; docs/artefact.md says what is in it."""


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
        checkout=workflow.basedir,
        code=lambda wildcards: plan.code("stages.artefact"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "artefact --study {params.study:q} --results results --code {params.checkout:q} "
        "--output {output} 2>&1 | tee {log}"
