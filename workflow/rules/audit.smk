"""Risk: from a confidence table to the risk of every record and patient, aggregate attacks, and who is in the tail."""


rule audit:
    input:
        confidences="results/confidences/{experiment}/{query}.parquet",
        records=lambda wildcards: f"{plan.described(wildcards.experiment)}/records.parquet",
        groups=lambda wildcards: f"{plan.described(wildcards.experiment)}/groups.parquet",
    output:
        expand(
            "results/audit/{{experiment}}/{{query}}/{table}.parquet",
            table=AUDIT_TABLES,
        ),
        summary="results/audit/{experiment}/{query}/summary.json",
    log:
        "results/logs/audit/{experiment}/{query}.log",
    benchmark:
        "results/benchmarks/audit/{experiment}/{query}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    params:
        options=lambda wildcards: plan.audit_options,
        pairing=lambda wildcards: plan.pairing(wildcards.experiment),
        code=lambda wildcards: plan.code("stages.audit"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "audit --experiment {wildcards.experiment} --query {wildcards.query} "
        "--confidences {input.confidences} --records {input.records} --groups {input.groups} "
        "--pairing {params.pairing} --options {params.options:q} --threads {threads} --output results/audit/{wildcards.experiment}/{wildcards.query} 2>&1 | tee {log}"


rule audits:
    input:
        plan.for_each_query("results/audit/{experiment}/{query}/summary.json"),
