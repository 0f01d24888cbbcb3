"""The page that a data-protection officer reads."""


rule report:
    input:
        rules.figures.input,
        expand("results/performance/{experiment}.parquet", experiment=plan.experiments),
        [
            f"results/audit/{experiment.name}/{experiment.queries[0]}/{file}"
            for experiment in plan.experiments.values()
            for file in ["summary.json", "patients.parquet", "subgroups.parquet"]
        ],
        [
            f"results/audit/{name}/given/{file}"
            for name in plan.study.given
            for file in ["summary.json", "subgroups.parquet"]
        ],
        expand("results/confidences/{name}/given.parquet", name=plan.study.given),
        expand("results/compare/access/{experiment}.parquet", experiment=plan.access),
        expand("results/compare/stability/{dataset}.parquet", dataset=plan.stability),
        ["results/compare/groups/meta.parquet"] if plan.grouped else [],
        expand(
            "results/datasets/{dataset}/{file}",
            dataset=plan.datasets,
            file=[
                "card.json",
                "baseline.json",
                "records.parquet",
                "groups.parquet",
                "duplicates.json",
            ],
        ),
    output:
        page=report(
            "results/report.html", caption="../report/page.rst", category="Report"
        ),
        headlines="results/headlines.json",
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        # Not in canonical order: the page follows the configuration, and an experiment's first query heads it.
        study=lambda wildcards: plan.page,
        code=lambda wildcards: plan.code("stages.report"),
        templates=lambda wildcards: plan.templates,
    shell:
        "tailrisk --log {log} --writes '{output}' "
        "report --results results --study {params.study:q} --page {output.page} "
        "--headlines {output.headlines} 2>&1 | tee {log}"
