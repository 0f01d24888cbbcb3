"""Comparisons across experiments."""


rule capacity:
    input:
        audits=lambda wildcards: expand(
            "results/audit/{experiment}/{query}/summary.json",
            experiment=plan.comparisons[wildcards.comparison],
            query=wildcards.query,
        ),
        performance=lambda wildcards: expand(
            "results/performance/{experiment}.parquet",
            experiment=plan.comparisons[wildcards.comparison],
        ),
    output:
        "results/compare/capacity/{comparison}.{query}.parquet",
    log:
        "results/logs/compare/capacity/{comparison}.{query}.log",
    benchmark:
        "results/benchmarks/compare/capacity/{comparison}.{query}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        audits=lambda wildcards: expand(
            "--audit {experiment}=results/audit/{experiment}/{query}",
            experiment=plan.comparisons[wildcards.comparison],
            query=wildcards.query,
        ),
        performance=lambda wildcards: expand(
            "--performance {experiment}=results/performance/{experiment}.parquet",
            experiment=plan.comparisons[wildcards.comparison],
        ),
        code=plan.code("compare.capacity"),
    shell:
        "tailrisk capacity {params.audits} {params.performance} --output {output} 2>&1 | tee {log}"


rule access:
    input:
        lambda wildcards: expand(
            "results/audit/{experiment}/{query}/{file}",
            experiment=wildcards.experiment,
            query=plan.experiment(wildcards.experiment).queries,
            file=["summary.json", "patients.parquet"],
        ),
    output:
        "results/compare/access/{experiment}.parquet",
    log:
        "results/logs/compare/access/{experiment}.log",
    benchmark:
        "results/benchmarks/compare/access/{experiment}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        queries=lambda wildcards: plan.experiment(wildcards.experiment).asked,
        audits=lambda wildcards: expand(
            "--audit {query}=results/audit/{experiment}/{query}",
            experiment=wildcards.experiment,
            query=plan.experiment(wildcards.experiment).queries,
        ),
        code=plan.code("compare.access"),
    shell:
        "tailrisk access --experiment {wildcards.experiment} --queries {params.queries:q} {params.audits} "
        "--output {output} 2>&1 | tee {log}"
