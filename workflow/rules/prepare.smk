"""Datasets: read, split by patient and validated once; group variables apart, so that a new one retrains nothing."""


rule prepare:
    output:
        records="results/datasets/{dataset}/records.parquet",
        inputs="results/datasets/{dataset}/inputs.npy",
        labels="results/datasets/{dataset}/labels.npy",
        excluded="results/datasets/{dataset}/excluded.parquet",
        card="results/datasets/{dataset}/card.json",
    log:
        "results/logs/prepare/{dataset}.log",
    benchmark:
        "results/benchmarks/prepare/{dataset}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 8
    params:
        source=lambda wildcards: plan.source(wildcards.dataset),
        code=lambda wildcards: plan.source_code(wildcards.dataset, "prepare"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "prepare --name {wildcards.dataset} --source {params.source:q} "
        "--threads {threads} --output results/datasets/{wildcards.dataset} 2>&1 | tee {log}"


rule groups:
    input:
        records="results/datasets/{dataset}/records.parquet",
    output:
        "results/datasets/{dataset}/groups.parquet",
    log:
        "results/logs/groups/{dataset}.log",
    benchmark:
        "results/benchmarks/groups/{dataset}.tsv"
    # First of all, so that a group column that does not exist is known before anything is trained.
    priority: 10
    conda:
        "../../envs/analysis.yaml"
    params:
        source=lambda wildcards: plan.grouping(wildcards.dataset),
        code=lambda wildcards: plan.source_code(wildcards.dataset, "groups"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "groups --name {wildcards.dataset} --source {params.source:q} "
        "--dataset results/datasets/{wildcards.dataset} 2>&1 | tee {log}"


rule duplicates:
    input:
        records="results/datasets/{dataset}/records.parquet",
        inputs="results/datasets/{dataset}/inputs.npy",
        labels="results/datasets/{dataset}/labels.npy",
    output:
        table="results/datasets/{dataset}/duplicates.parquet",
        summary="results/datasets/{dataset}/duplicates.json",
    log:
        "results/logs/duplicates/{dataset}.log",
    benchmark:
        "results/benchmarks/duplicates/{dataset}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 4
    params:
        code=lambda wildcards: plan.code("datasets.duplicates"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "duplicates --dataset results/datasets/{wildcards.dataset} --threads {threads} 2>&1 | tee {log}"


rule datasets:
    input:
        expand("results/datasets/{dataset}/card.json", dataset=plan.datasets),


rule baseline:
    input:
        records="results/datasets/{dataset}/records.parquet",
        inputs="results/datasets/{dataset}/inputs.npy",
        labels="results/datasets/{dataset}/labels.npy",
        card="results/datasets/{dataset}/card.json",
    output:
        "results/datasets/{dataset}/baseline.json",
    log:
        "results/logs/baseline/{dataset}.log",
    benchmark:
        "results/benchmarks/baseline/{dataset}.tsv"
    conda:
        "../../envs/analysis.yaml"
    params:
        seed=plan.study.seed,
        code=lambda wildcards: plan.code("stages.baseline"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "baseline --dataset results/datasets/{wildcards.dataset} --seed {params.seed} "
        "--output {output} 2>&1 | tee {log}"


rule download:
    log:
        "results/logs/download.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    # Runs only when asked for by name, and fetches only sources that state a url and are not there yet.
    params:
        sources=lambda wildcards: plan.downloads,
    shell:
        "tailrisk download {params.sources:q} 2>&1 | tee {log}"
