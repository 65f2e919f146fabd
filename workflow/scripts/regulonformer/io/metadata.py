"""What is known of the barcodes of a library besides their counts: sample sheet, labels, Cell Ranger's metrics."""

import csv

import pandas as pd

from regulonformer.errors import UNREADABLE, InputError

SAMPLE_COLUMNS = ("sample", "donor", "batch", "condition")
FILE_COLUMNS = (
    "outs",
    "matrix",
    "peak_matrix",
    "fragments",
    "peaks",
    "barcode_metrics",
    "labels",
    "genome",
    "modality",
)
# What the sheet always says of a library; a matrix's own columns of these names are kept beside them.
OF_LIBRARY = ("sample", "barcode", "donor")
# Columns that the ingest writes itself, and names that a table of cells cannot have in h5ad or parquet.
RESERVED_COLUMNS = (
    *("n_counts_rna", "n_genes", "pct_mito", "pct_ribo", "n_counts_atac", "n_peaks"),
    *("n_fragments", "tss_enrichment", "nucleosome_signal", "frip", "blacklist_share", "duplication_fragments"),
    *("n_overlap_sites", "n_overlap_fragments", "duplication_atac"),
    *("doublet_score", "doublet_qvalue", "doublet_rna", "doublet_atac", "reason"),
    *("spatial_x", "spatial_y"),
    *("cell", "_index"),
)
# How tables write that a cell has no label.
NO_LABEL = ["NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "None", "NULL", "null", " "]


def cell_ids(sample: str, barcodes) -> pd.Index:
    """Cell ids that are unique over libraries: the barcode, prefixed with its sample unless it already is."""
    prefix = f"{sample}_"
    return pd.Index([name if name.startswith(prefix) else prefix + name for name in map(str, barcodes)], dtype=object)


def sample_table(sample: dict, barcodes) -> tuple[pd.DataFrame, list[str]]:
    """Sample sheet row, repeated for every cell.

    Parameters
    ----------
    sample
        Row of the sample sheet; donor falls back to the sample's name. Columns that name files are left out, other
        columns become cell metadata, those of `RESERVED_COLUMNS` as "label_{column}".
    barcodes
        Barcodes as the matrix has them.

    Returns
    -------
    pandas.DataFrame
        Text columns sample, barcode, donor, batch, condition and the further ones, by cell id.
    list of str
        Notes.
    """
    name = _text(sample["sample"])
    row = {column: _text(sample.get(column)) for column in SAMPLE_COLUMNS}
    row["donor"] = row["donor"] or name
    extra = [column for column in sample if column not in {*SAMPLE_COLUMNS, *FILE_COLUMNS}]
    table = pd.DataFrame({"sample": name, "barcode": list(map(str, barcodes))}, index=cell_ids(name, barcodes))
    for column in SAMPLE_COLUMNS[1:]:
        table[column] = row[column]
    notes = []
    for column in extra:
        place = _free_name(column, table)
        table[place] = _text(sample[column])
        if place != column:
            notes.append(_renamed("sample sheet", column, place))
    return table.astype(object), notes


def join_labels(cells: pd.DataFrame, path) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns of a label table to cells; a cell that has no line gets "".

    A line belongs to a cell if its `barcode` is the cell's barcode or its cell id ("{sample}_{barcode}"). A label
    column that the sample sheet already fills, or that is one of `RESERVED_COLUMNS`, is stored as "label_{column}".

    Parameters
    ----------
    cells
        Table from `sample_table`.
    path
        TSV with a column `barcode` and any others.

    Raises
    ------
    InputError
        If there is no column `barcode`, a barcode is there twice, or none belongs to a cell.
    """
    labels = read_labels(path)
    by_id, by_barcode = labels.index.get_indexer(cells.index), labels.index.get_indexer(cells["barcode"])
    place = pd.Series(by_id).where(by_id >= 0, by_barcode).to_numpy()
    matched = int((place >= 0).sum())
    if matched == 0:
        problem = f"no barcode matches; the labels have {labels.index[0]!r}" if len(labels) else "no labels"
        fix = "Write barcodes as the matrix has them, with or without the prefix 'sample_'"
        raise InputError(path, f"{problem}, the matrix {cells['barcode'].iloc[0]!r}", fix)
    notes = [f"labels: {matched} of {len(cells)} cells matched, {len(labels)} lines in the table"]
    for column in labels.columns:
        values = labels[column].to_numpy()[place]
        values[place < 0] = ""
        if column in cells and (cells[column] == values).all():
            continue
        is_blank = column in cells and (cells[column] == "").all()
        name = column if is_blank else _free_name(column, cells)
        if name != column:
            notes.append(_renamed("labels", column, name))
        cells = cells.assign(**{name: values})
    return cells, notes


def join_own_labels(cells: pd.DataFrame, tables: list[tuple[str, pd.DataFrame]]) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns of the matrices' own tables of cells, as if they stood in a labels file.

    Columns that the ingest measures itself (`RESERVED_COLUMNS`) are left out, and so are those of a second matrix that
    the first has too: counts and clusters of genes and of peaks go by the same names. Sample, barcode and donor are
    stored as "label_{column}".

    Parameters
    ----------
    cells
        Table from `sample_table` or `join_labels`.
    tables
        Of each matrix: the file, and text columns by barcode.

    Raises
    ------
    InputError
        If sample sheet or labels say something else of a cell; numbers are compared as numbers.
    """
    notes, earlier = [], set()
    for path, own in tables:
        if twice := [name for name in own if name in earlier and name not in RESERVED_COLUMNS]:
            notes.append(f"obs: columns {', '.join(twice)} of {path} are left out, because the other matrix has them")
        earlier |= set(own)
        cells, more = _join_table(cells, own.drop(columns=twice), path)
        notes += more
    return cells, notes


def _join_table(cells: pd.DataFrame, own: pd.DataFrame, path) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns of one matrix's table of cells."""
    measured = [name for name in own if name in RESERVED_COLUMNS]
    notes = [f"obs: columns {', '.join(measured)} are left out, because the ingest measures them"] if measured else []
    table = own.drop(columns=measured).reindex(cells["barcode"]).set_axis(cells.index).fillna("").replace(NO_LABEL, "")
    taken = []
    for column in table:
        name = _free_name(column, cells) if column in OF_LIBRARY else column
        known, values = cells.get(name, pd.Series("", cells.index)), table[column]
        differs = (known != "") & (values != "") & (known != values)
        differs &= pd.to_numeric(known, errors="coerce") != pd.to_numeric(values, errors="coerce")  # 61 and 61.0
        if differs.any():
            cell = differs.idxmax()
            problem = f"obs[{column!r}] of {int(differs.sum())} cells is not what sample sheet or labels say"
            problem += f"; first {cells.loc[cell, 'barcode']!r}: {values[cell]!r}, there {known[cell]!r}"
            raise InputError(path, problem, "Correct one of them, or rename the column of one")
        cells = cells.assign(**{name: known.where(known != "", values)})
        taken.append(name)
    if taken:
        notes.append(f"obs: columns {', '.join(taken)} of the matrix were taken as labels")
    return cells, notes


def read_barcode_metrics(path, barcodes) -> tuple[pd.DataFrame, list[str]]:
    """Read the duplication of the ATAC reads from Cell Ranger ARC's `per_barcode_metrics.csv`.

    Returns
    -------
    pandas.DataFrame
        By barcode: duplication_atac, the share of reads that repeat a fragment, if the file has the columns.
    list of str
        Notes.

    Raises
    ------
    InputError
        If it is no CSV with a column `barcode`, or a number of reads is no number.
    """
    fix = "Give per_barcode_metrics.csv of Cell Ranger ARC"
    try:
        # The header is read as a row: longer rows are then an error, not an index.
        table = pd.read_csv(path, header=None, dtype=str)
    except UNREADABLE as error:
        raise InputError(path, f"not a readable CSV ({error})", fix) from error
    table = table.iloc[1:].set_axis(table.iloc[0].tolist(), axis=1)
    if "barcode" not in table:
        raise InputError(path, "has no column 'barcode'", fix)
    unique = table.drop_duplicates("barcode").set_index("barcode")
    notes = [f"barcode metrics: {int(pd.Index(barcodes).isin(unique.index).sum())} of {len(barcodes)} barcodes found"]
    if repeated := len(table) - len(unique):
        notes.append(f"barcode metrics: {repeated} lines repeat a barcode; the first line of each was used")
    result = pd.DataFrame(index=pd.Index(barcodes, name="barcode"))
    if {"atac_dup_reads", "atac_raw_reads"} <= set(unique.columns):
        raw, repeats = _numbers(unique["atac_raw_reads"], path, fix), _numbers(unique["atac_dup_reads"], path, fix)
        result["duplication_atac"] = (repeats / raw.where(raw > 0)).reindex(barcodes)
    return result, notes


def read_labels(path) -> pd.DataFrame:
    """Read a label table by barcode; NA, nan, None and empty cells are "", no label. Quotes around a value are no part.

    Raises
    ------
    InputError
        If it is no TSV with a column `barcode`, or a barcode is there twice.
    """
    try:
        # A quote that is never closed would swallow all lines up to the next one.
        labels = pd.read_csv(path, sep="\t", dtype=str, quoting=csv.QUOTE_NONE, keep_default_na=False)
    except UNREADABLE as error:
        raise InputError(
            path, f"not a readable TSV ({error})", "Give a table with tabs and a column 'barcode'"
        ) from error
    labels = labels.rename(columns=_unquote).map(_unquote).replace(NO_LABEL, "")
    if "barcode" not in labels:
        raise InputError(
            path, f"has no column 'barcode', only {list(labels.columns)}", "Name the barcode column 'barcode'"
        )
    if labels["barcode"].duplicated().any():
        twice = labels.loc[labels["barcode"].duplicated(), "barcode"].iloc[0]
        raise InputError(path, f"barcode {twice!r} occurs more than once", "Keep one line per barcode")
    return labels.set_index("barcode")


def _free_name(column: str, taken) -> str:
    """Name to store a column under: "label_" goes before one that is taken."""
    while column in taken or column in RESERVED_COLUMNS:
        column = f"label_{column}"
    return column


def _renamed(where: str, column: str, name: str) -> str:
    reason = f"the ingest writes {column!r} itself" if column in RESERVED_COLUMNS else "the sample sheet has it too"
    return f"{where}: column {column!r} is stored as {name!r}, because {reason}"


def _numbers(column: pd.Series, path, fix: str) -> pd.Series:
    """Numbers by barcode, NaN where the cell is empty."""
    numbers = pd.to_numeric(column, errors="coerce")
    odd = column[numbers.isna() & column.notna()]
    if len(odd):
        raise InputError(path, f"{column.name} of barcode {odd.index[0]!r} is {odd.iloc[0]!r}, not a number", fix)
    return numbers.astype(float)


def _unquote(text: str) -> str:
    """Text without the quotes around it; doubled ones inside are single again."""
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def _text(value) -> str:
    """Text of a sheet's cell; empty cells (None, NaN) are ""."""
    return "" if value is None or value != value else str(value)
