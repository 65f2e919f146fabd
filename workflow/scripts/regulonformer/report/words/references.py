"""What the methods text cites."""

REFERENCES = {
    "snakemake": "Mölder F. et al. Sustainable data analysis with Snakemake. F1000Research 10:33 (2021).",
    "scanpy": (
        "Wolf F.A., Angerer P., Theis F.J. SCANPY: large-scale single-cell gene expression data analysis. Genome "
        "Biology 19:15 (2018)."
    ),
    "muon": "Bredikhin D., Kats I., Stegle O. MUON: multimodal omics analysis framework. Genome Biology 23:42 (2022).",
    "scrublet": (
        "Wolock S.L., Lopez R., Klein A.M. Scrublet: computational identification of cell doublets in single-cell "
        "transcriptomic data. Cell Systems 8:281–291 (2019)."
    ),
    "amulet": (
        "Thibodeau A. et al. AMULET: a novel read count-based method for effective multiplet detection from single "
        "nucleus ATAC-seq data. Genome Biology 22:252 (2021)."
    ),
    "pysam": (
        "Bonfield J.K. et al. HTSlib: C library for reading/writing high-throughput sequencing data. GigaScience "
        "10:giab007 (2021); used through pysam."
    ),
    "pyranges": (
        "Stovner E.B., Sætrom P. PyRanges: efficient comparison of genomic intervals in Python. Bioinformatics "
        "36:918–919 (2020)."
    ),
    "macs": "Zhang Y. et al. Model-based analysis of ChIP-Seq (MACS). Genome Biology 9:R137 (2008).",
    "umap": (
        "McInnes L., Healy J., Melville J. UMAP: uniform manifold approximation and projection for dimension "
        "reduction. arXiv:1802.03426 (2018)."
    ),
    "jaspar": (
        "Rauluseviciute I. et al. JASPAR 2024: 20th anniversary of the open-access database of transcription "
        "factor binding profiles. Nucleic Acids Research 52:D174–D182 (2024)."
    ),
    "lightmotif": (
        "Larralde M. LightMotif: a lightweight library for scanning sequences with position weight matrices. "
        "https://github.com/althonos/lightmotif."
    ),
    "null": (
        "Ma S. et al. Chromatin potential identified by shared single-cell profiling of RNA and chromatin. Cell "
        "183:1103–1116 (2020)."
    ),
    "two_groups": "Efron B. Microarrays, empirical Bayes and the two-groups model. Statistical Science 23:1–22 (2008).",
    "eqtl": (
        "Veyrieras J.-B. et al. High-resolution mapping of expression-QTLs yields insight into human gene regulation. "
        "PLoS Genetics 4:e1000214 (2008)."
    ),
    "aucell": (
        "Aibar S. et al. SCENIC: single-cell regulatory network inference and clustering. Nature Methods 14:1083–1086 "
        "(2017)."
    ),
    "beeline": (
        "Pratapa A. et al. Benchmarking algorithms for gene regulatory network inference from single-cell "
        "transcriptomic data. Nature Methods 17:147–154 (2020)."
    ),
    "rewiring": (
        "Maslov S., Sneppen K. Specificity and stability in topology of protein networks. Science 296:910–913 (2002)."
    ),
    "linformer": "Wang S. et al. Linformer: self-attention with linear complexity. arXiv:2006.04768 (2020).",
    "lora": "Hu E.J. et al. LoRA: low-rank adaptation of large language models. ICLR (2022); arXiv:2106.09685.",
    "peft": (
        "Mangrulkar S. et al. PEFT: state-of-the-art parameter-efficient fine-tuning methods. "
        "https://github.com/huggingface/peft (2022)."
    ),
    "gradients": (
        "Sundararajan M., Taly A., Yan Q. Axiomatic attribution for deep networks. ICML, PMLR 70:3319–3328 (2017); "
        "computed with Captum, arXiv:2009.07896."
    ),
    "selective": "Geifman Y., El-Yaniv R. Selective classification for deep neural networks. NeurIPS (2017).",
    ("conformal"): (
        "Bates S. et al. Testing for outliers with conformal p-values. Annals of Statistics 51:149–178 (2023)."
    ),
    "scib": (
        "Luecken M.D. et al. Benchmarking atlas-level data integration in single-cell genomics. Nature Methods "
        "19:41–50 (2022)."
    ),
    "geneformer": (
        "Theodoris C.V. et al. Transfer learning enables predictions in network biology. Nature 618:616–624 (2023)."
    ),
}
