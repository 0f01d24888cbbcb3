"""Target models: the only stage that wants a GPU. One declared file a job; finished models wait in the store."""


rule train:
    input:
        records=lambda wildcards: f"results/datasets/{plan.experiment(wildcards.experiment).dataset}/records.parquet",
        inputs=lambda wildcards: f"results/datasets/{plan.experiment(wildcards.experiment).dataset}/inputs.npy",
        labels=lambda wildcards: f"results/datasets/{plan.experiment(wildcards.experiment).dataset}/labels.npy",
    output:
        "results/targets/{experiment}/{chunk}.parquet",
    log:
        "results/logs/train/{experiment}/{chunk}.log",
    benchmark:
        "results/benchmarks/train/{experiment}/{chunk}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        recipe=lambda wildcards: plan.experiment(wildcards.experiment).recipe,
        queries=lambda wildcards: plan.experiment(wildcards.experiment).asked,
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "train --dataset $(dirname {input.records}) --recipe {params.recipe:q} --queries {params.queries:q} "
        "--models {wildcards.chunk} --store results/store --output {output} 2>&1 | tee {log}"
