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
    localrule: True
    conda:
        "../../envs/analysis.yaml"
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
        code=lambda wildcards: plan.code("compare.capacity"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "capacity {params.audits} {params.performance} --output {output} 2>&1 | tee {log}"


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
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        queries=lambda wildcards: plan.experiment(wildcards.experiment).asked,
        audits=lambda wildcards: expand(
            "--audit {query}=results/audit/{experiment}/{query}",
            experiment=wildcards.experiment,
            query=plan.experiment(wildcards.experiment).queries,
        ),
        code=lambda wildcards: plan.code("compare.access"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "access --experiment {wildcards.experiment} --queries {params.queries:q} {params.audits} "
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
        code=lambda wildcards: plan.code("compare.stability"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "stability {params.audits} {params.confidences} --records {input.records} --tail {params.tail} "
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
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        audits=plan.named("audit", plan.grouped, "results/audit/{experiment}/{query}"),
        groups=plan.named(
            "groups", plan.grouped, "results/datasets/{dataset}/groups.parquet"
        ),
        options=plan.audit_options,
        code=lambda wildcards: plan.code("compare.groups"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "groups-across-datasets {params.audits} {params.groups} --options {params.options:q} "
        "--output {output.groups} --meta {output.meta} 2>&1 | tee {log}"
