"""Confidences: the chunks of an experiment joined into one table per query, with the models' performance."""


rule gather:
    input:
        lambda wildcards: expand(
            "results/targets/{experiment}/{chunk}.parquet",
            experiment=wildcards.experiment,
            chunk=plan.chunks(wildcards.experiment),
        ),
    output:
        confidences=expand(
            "results/confidences/{{experiment}}/{query}.parquet", query=plan.queries
        ),
        performance="results/performance/{experiment}.parquet",
    log:
        "results/logs/gather/{experiment}.log",
    benchmark:
        "results/benchmarks/gather/{experiment}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        n_models=lambda wildcards: plan.experiment(wildcards.experiment).n_models,
        max_failed_pairs=plan.study.max_failed_pairs,
        confidences=lambda wildcards: expand(
            "--confidences {query}=results/confidences/{experiment}/{query}.parquet",
            query=plan.queries,
            experiment=wildcards.experiment,
        ),
        code=plan.code("stages.gather"),
    shell:
        "tailrisk gather --n-models {params.n_models} --max-failed-pairs {params.max_failed_pairs} "
        "{params.confidences} --performance {output.performance} {input} 2>&1 | tee {log}"


rule confidences:
    input:
        expand(
            "results/confidences/{experiment}/{query}.parquet",
            experiment=plan.experiments,
            query=plan.queries,
        ),
