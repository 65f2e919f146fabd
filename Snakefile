# Regulonformer: from raw 10x Multiome outputs to a regulon-aware model and its report.

from snakemake.utils import min_version

min_version("9.19.0")


# A config file given with --configfile stands for itself and is not mixed with the demo's.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# ---- the stages, in the order in which data passes them --------------------------------------------------------------


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/validate.smk"
include: "workflow/rules/annotation.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/regulons.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/sequence.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/ablate.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/genes.smk"
include: "workflow/rules/report.smk"


# ---- what a run ends with --------------------------------------------------------------------------------------------


localrules:
    all,


rule all:
    default_target: True
    input:
        final_outputs(),
