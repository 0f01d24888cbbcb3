"""The page that a data-protection officer reads."""


rule report:
    input:
        rules.figures.input,
        expand("results/performance/{experiment}.parquet", experiment=plan.experiments),
        expand(
            "results/datasets/{dataset}/{file}.json",
            dataset=plan.datasets,
            file=["card", "baseline"],
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
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        study=plan.text,
        code=plan.code("stages.report"),
    shell:
        "tailrisk report --results results --study {params.study:q} --page {output.page} "
        "--headlines {output.headlines} 2>&1 | tee {log}"
