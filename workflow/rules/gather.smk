"""Confidences: the chunks of an experiment joined into one table per query, or a table from elsewhere."""


rule gather:
    input:
        lambda wildcards: plan.chunk_tables(wildcards.experiment),
    output:
        "results/confidences/{experiment}/{query}.parquet",
    log:
        "results/logs/gather/{experiment}/{query}.log",
    benchmark:
        "results/benchmarks/gather/{experiment}/{query}.tsv"
    wildcard_constraints:
        experiment=r"[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]+",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        n_models=lambda wildcards: plan.experiment(wildcards.experiment).n_models,
        max_failed_pairs=plan.study.max_failed_pairs,
        code=lambda wildcards: plan.code("stages.gather"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "gather --n-models {params.n_models} --max-failed-pairs {params.max_failed_pairs} "
        "--query {wildcards.query} --output {output} {input} 2>&1 | tee {log}"


rule performance:
    input:
        lambda wildcards: plan.chunk_tables(wildcards.experiment),
    output:
        "results/performance/{experiment}.parquet",
    log:
        "results/logs/performance/{experiment}.log",
    benchmark:
        "results/benchmarks/performance/{experiment}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        n_models=lambda wildcards: plan.experiment(wildcards.experiment).n_models,
        max_failed_pairs=plan.study.max_failed_pairs,
        code=lambda wildcards: plan.code("stages.gather"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "performance --n-models {params.n_models} --max-failed-pairs {params.max_failed_pairs} "
        "--output {output} {input} 2>&1 | tee {log}"


rule confidences:
    input:
        plan.for_each_query("results/confidences/{experiment}/{query}.parquet"),


rule given:
    output:
        confidences="results/confidences/{experiment}/given.parquet",
        records="results/given/{experiment}/records.parquet",
        groups="results/given/{experiment}/groups.parquet",
    log:
        "results/logs/given/{experiment}.log",
    benchmark:
        "results/benchmarks/given/{experiment}.tsv"
    wildcard_constraints:
        experiment=r"[a-z0-9_-]+",
    conda:
        "../../envs/analysis.yaml"
    params:
        tables=lambda wildcards: plan.given(wildcards.experiment),
        code=lambda wildcards: plan.code("stages.given"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "given --name {wildcards.experiment} --tables {params.tables:q} --confidences {output.confidences} "
        "--output results/given/{wildcards.experiment} 2>&1 | tee {log}"
