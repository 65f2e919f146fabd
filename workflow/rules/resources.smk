# Public data: files that the config names by URL, fetched when a step asks for them.

if CONFIG["downloads"]:

    # Compute nodes often cannot reach the internet; the machine on which Snakemake runs can.
    localrules:
        download_file,

    rule download_file:
        # No `lib`: a changed line of code is no reason to fetch gigabytes again.
        output:
            # `update` leaves the file that is there in place, so that naming its checksum later costs no second download.
            file=update("{download}"),
        log:
            "<logs>/download_file/{download}.log",
        wildcard_constraints:
            download="|".join(map(re.escape, CONFIG["downloads"])),
        conda:
            ENVIRONMENT
        params:
            source=lambda wildcards: section("downloads")[wildcards.download],
        message:
            "Downloading {wildcards.download}"
        script:
            "../scripts/download_file.py"


if CONFIG["reference"]["fasta"] in CONFIG["downloads"]:

    # An index that is named as a download of its own is taken as it is.
    ruleorder: download_file > index_fasta

    rule index_fasta:
        input:
            fasta=CONFIG["reference"]["fasta"],
            lib=lib("index_fasta"),
        output:
            index=f"{CONFIG['reference']['fasta']}.fai",
        log:
            "<logs>/index_fasta.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=1000,
            runtime=20,
        message:
            "Indexing {input.fasta}"
        script:
            "../scripts/index_fasta.py"
