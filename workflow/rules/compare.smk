"""Comparisons across experiments."""


rule capacity:
    input:
        audits=lambda wildcards: expand(
            "results/audit/{experiment}/{query}/{file}",
            experiment=plan.comparisons[wildcards.comparison],
            query=wildcards.query,
            file=["summary.json", "patients.parquet"],
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


rule stability:
    input:
        audits=lambda wildcards: plan.first_audits(
            plan.stability[wildcards.dataset], "summary.json", "patients.parquet"
        ),
        confidences=lambda wildcards: [
            f"results/confidences/{name}/{plan.experiment(name).queries[0]}.parquet"
            for name in plan.stability[wildcards.dataset]
        ],
        records="results/datasets/{dataset}/records.parquet",
    output:
        "results/compare/stability/{dataset}.parquet",
    log:
        "results/logs/compare/stability/{dataset}.log",
    benchmark:
        "results/benchmarks/compare/stability/{dataset}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        audits=lambda wildcards: plan.named(
            "audit",
            plan.stability[wildcards.dataset],
            "results/audit/{experiment}/{query}",
        ),
        confidences=lambda wildcards: plan.named(
            "confidences",
            plan.stability[wildcards.dataset],
            "results/confidences/{experiment}/{query}.parquet",
        ),
        tail=plan.study.subgroups.tail,
        seed=plan.study.seed,
        code=plan.code("compare.stability"),
    shell:
        "tailrisk stability {params.audits} {params.confidences} --records {input.records} --tail {params.tail} "
        "--seed {params.seed} --output {output} 2>&1 | tee {log}"


rule groups_across_datasets:
    input:
        plan.first_audits(plan.grouped, "records.parquet", "subgroups.parquet"),
        [
            f"results/datasets/{plan.experiment(name).dataset}/groups.parquet"
            for name in plan.grouped
        ],
    output:
        groups="results/compare/groups/groups.parquet",
        meta="results/compare/groups/meta.parquet",
    log:
        "results/logs/compare/groups.log",
    benchmark:
        "results/benchmarks/compare/groups.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        audits=plan.named("audit", plan.grouped, "results/audit/{experiment}/{query}"),
        groups=plan.named(
            "groups", plan.grouped, "results/datasets/{dataset}/groups.parquet"
        ),
        options=plan.audit_options,
        code=plan.code("compare.groups"),
    shell:
        "tailrisk groups-across-datasets {params.audits} {params.groups} --options {params.options:q} "
        "--output {output.groups} --meta {output.meta} 2>&1 | tee {log}"
