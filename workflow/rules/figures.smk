"""Figures, as SVG and PNG."""


rule dataset_figures:
    input:
        "results/datasets/{dataset}/records.parquet",
        "results/datasets/{dataset}/inputs.npy",
        "results/datasets/{dataset}/card.json",
    output:
        report(
            multiext("results/figures/datasets/{dataset}/inputs", ".svg", ".png"),
            caption="../report/inputs.rst",
            category="The datasets",
        ),
    log:
        "results/logs/figures/datasets/{dataset}.log",
    benchmark:
        "results/benchmarks/figures/datasets/{dataset}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=lambda wildcards: plan.code("figures.dataset"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "dataset-figures --dataset results/datasets/{wildcards.dataset} "
        "--output results/figures/datasets/{wildcards.dataset} 2>&1 | tee {log}"


rule audit_figures:
    input:
        "results/audit/{experiment}/{query}/summary.json",
        "results/audit/{experiment}/{query}/survival.parquet",
        "results/audit/{experiment}/{query}/aggregate.parquet",
        "results/audit/{experiment}/{query}/subgroups.parquet",
        "results/audit/{experiment}/{query}/models.parquet",
    output:
        report(
            multiext(
                "results/figures/{experiment}/{query}/aggregate_versus_patients",
                ".svg",
                ".png",
            ),
            caption="../report/aggregate_versus_patients.rst",
            category="Aggregate versus patients",
        ),
        report(
            multiext("results/figures/{experiment}/{query}/models", ".svg", ".png"),
            caption="../report/models.rst",
            category="Enough models",
        ),
        report(
            multiext(
                "results/figures/{experiment}/{query}/composition", ".svg", ".png"
            ),
            caption="../report/composition.rst",
            category="Who is at risk",
        ),
        report(
            multiext("results/figures/{experiment}/{query}/subgroups", ".svg", ".png"),
            caption="../report/subgroups.rst",
            category="Who is at risk",
        ),
    log:
        "results/logs/figures/{experiment}/{query}.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/{query}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=lambda wildcards: plan.code("figures.write"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "figures --audit results/audit/{wildcards.experiment}/{wildcards.query} "
        "--output results/figures/{wildcards.experiment}/{wildcards.query} 2>&1 | tee {log}"


rule comparison_figures:
    input:
        table="results/compare/capacity/{comparison}.{query}.parquet",
        curves=lambda wildcards: expand(
            "results/audit/{experiment}/{query}/survival.parquet",
            experiment=plan.comparisons[wildcards.comparison],
            query=wildcards.query,
        ),
    output:
        report(
            multiext(
                "results/figures/compare/{comparison}.{query}/capacity", ".svg", ".png"
            ),
            caption="../report/capacity.rst",
            category="Capacity",
        ),
        report(
            multiext(
                "results/figures/compare/{comparison}.{query}/changes", ".svg", ".png"
            ),
            caption="../report/changes.rst",
            category="Capacity",
        ),
        report(
            multiext(
                "results/figures/compare/{comparison}.{query}/survival_overlay",
                ".svg",
                ".png",
            ),
            caption="../report/survival_overlay.rst",
            category="Capacity",
        ),
    log:
        "results/logs/figures/compare/{comparison}.{query}.log",
    benchmark:
        "results/benchmarks/figures/compare/{comparison}.{query}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        audits=lambda wildcards: expand(
            "--audit {experiment}=results/audit/{experiment}/{query}",
            experiment=plan.comparisons[wildcards.comparison],
            query=wildcards.query,
        ),
        code=lambda wildcards: plan.code("figures.write"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "comparison-figures --table {input.table} {params.audits} "
        "--output results/figures/compare/{wildcards.comparison}.{wildcards.query} 2>&1 | tee {log}"


rule access_figures:
    input:
        lambda wildcards: expand(
            "results/audit/{experiment}/{query}/{file}",
            experiment=wildcards.experiment,
            query=plan.experiment(wildcards.experiment).queries,
            file=["summary.json", "survival.parquet"],
        ),
        card=lambda wildcards: f"results/datasets/{plan.experiment(wildcards.experiment).dataset}/card.json",
    output:
        report(
            multiext(
                "results/figures/compare/access/{experiment}/access", ".svg", ".png"
            ),
            caption="../report/access.rst",
            category="What the attacker knows",
        ),
    log:
        "results/logs/figures/compare/access/{experiment}.log",
    benchmark:
        "results/benchmarks/figures/compare/access/{experiment}.tsv"
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
        code=lambda wildcards: plan.code("figures.write"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "access-figures --queries {params.queries:q} --card {input.card} {params.audits} "
        "--output results/figures/compare/access/{wildcards.experiment} 2>&1 | tee {log}"


rule group_figures:
    input:
        groups="results/compare/groups/groups.parquet",
        meta="results/compare/groups/meta.parquet",
    output:
        report(
            multiext("results/figures/compare/groups/meta", ".svg", ".png"),
            caption="../report/meta.rst",
            category="Who is at risk",
        ),
    log:
        "results/logs/figures/compare/groups.log",
    benchmark:
        "results/benchmarks/figures/compare/groups.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=lambda wildcards: plan.code("figures.write"),
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "group-figures --groups {input.groups} --meta {input.meta} "
        "--output results/figures/compare/groups 2>&1 | tee {log}"


rule figures:
    input:
        expand("results/figures/datasets/{dataset}/inputs.svg", dataset=plan.shown),
        plan.for_each_query(
            "results/figures/{experiment}/{query}/aggregate_versus_patients.svg"
        ),
        [
            f"results/figures/compare/{comparison}.{query}/capacity.svg"
            for comparison in plan.comparisons
            for query in plan.comparison_queries(comparison)
        ],
        expand(
            "results/figures/compare/access/{experiment}/access.svg",
            experiment=plan.access,
        ),
        ["results/figures/compare/groups/meta.svg"] if plan.grouped else [],
