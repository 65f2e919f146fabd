"""The workflow passes Snakemake's own linter."""


def test_snakemake_lint_finds_nothing(project):
    done = project.snakemake("--lint", check=False)
    assert done.returncode == 0, done.stdout
