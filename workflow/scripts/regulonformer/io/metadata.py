"""What is known of the barcodes of a library besides their counts: sample sheet, labels, Cell Ranger's metrics."""

import pandas as pd

from regulonformer.errors import InputError

SAMPLE_COLUMNS = ("sample", "donor", "batch", "condition")
FILE_COLUMNS = ("outs", "matrix", "fragments", "peaks", "barcode_metrics", "labels", "genome")


def cell_ids(sample: str, barcodes) -> pd.Index:
    """Cell ids that are unique over libraries: the barcode, prefixed with its sample unless it already is."""
    prefix = f"{sample}_"
    return pd.Index([name if name.startswith(prefix) else prefix + name for name in map(str, barcodes)], dtype=object)


def sample_table(sample: dict, barcodes) -> pd.DataFrame:
    """Sample sheet row, repeated for every cell.

    Parameters
    ----------
    sample
        Row of the sample sheet; donor falls back to the sample's name. Columns that name files are left out, other
        columns become cell metadata.
    barcodes
        Barcodes as the matrix has them.

    Returns
    -------
    pandas.DataFrame
        Text columns sample, barcode, donor, batch, condition and the further ones, by cell id.
    """
    name = _text(sample["sample"])
    row = {column: _text(sample.get(column)) for column in SAMPLE_COLUMNS}
    row["donor"] = row["donor"] or name
    extra = [column for column in sample if column not in {*SAMPLE_COLUMNS, *FILE_COLUMNS}]
    table = pd.DataFrame({"sample": name, "barcode": list(map(str, barcodes))}, index=cell_ids(name, barcodes))
    for column in [*SAMPLE_COLUMNS[1:], *extra]:
        table[column] = row.get(column, _text(sample.get(column)))
    return table.astype(object)


def join_labels(cells: pd.DataFrame, path) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns of a label table to cells; a cell that has no line gets "".

    A line belongs to a cell if its `barcode` is the cell's barcode or its cell id ("{sample}_{barcode}"). A label
    column that the sample sheet already fills is stored as "label_{column}".

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
        name = column
        if column in cells and (cells[column] != "").any():
            if (cells[column] == values).all():
                continue
            name = f"label_{column}"
            notes.append(f"labels: column {column!r} is stored as {name!r}, because the sample sheet has it too")
        cells = cells.assign(**{name: values})
    return cells, notes


def read_barcode_metrics(path, barcodes) -> tuple[pd.DataFrame, list[str]]:
    """Read the duplication of the ATAC reads from Cell Ranger ARC's `per_barcode_metrics.csv`.

    Returns
    -------
    pandas.DataFrame
        By barcode: duplication_atac, the share of reads that repeat a fragment, if the file has the columns.
    list of str
        Notes.
    """
    table = pd.read_csv(path, dtype={"barcode": str})
    if "barcode" not in table:
        raise InputError(path, "has no column 'barcode'", "Give per_barcode_metrics.csv of Cell Ranger ARC")
    table = table.drop_duplicates("barcode").set_index("barcode")
    notes = [f"barcode metrics: {int(pd.Index(barcodes).isin(table.index).sum())} of {len(barcodes)} barcodes found"]
    table = table.reindex(barcodes)
    result = pd.DataFrame(index=table.index)
    if {"atac_dup_reads", "atac_raw_reads"} <= set(table.columns):
        raw = table["atac_raw_reads"].astype(float)
        result["duplication_atac"] = table["atac_dup_reads"].astype(float) / raw.where(raw > 0)
    return result, notes


def read_labels(path) -> pd.DataFrame:
    """Read a label table by barcode; NA, nan, None and empty cells are "", no label.

    Raises
    ------
    InputError
        If it is no TSV with a column `barcode`, or a barcode is there twice.
    """
    try:
        labels = pd.read_csv(path, sep="\t", dtype=str).fillna("")
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"not a readable TSV ({error})", "Give a table with tabs and a column 'barcode'"
        ) from error
    if "barcode" not in labels:
        raise InputError(
            path, f"has no column 'barcode', only {list(labels.columns)}", "Name the barcode column 'barcode'"
        )
    if labels["barcode"].duplicated().any():
        twice = labels.loc[labels["barcode"].duplicated(), "barcode"].iloc[0]
        raise InputError(path, f"barcode {twice!r} occurs more than once", "Keep one line per barcode")
    return labels.set_index("barcode")


def _text(value) -> str:
    """Text of a sheet's cell; empty cells (None, NaN) are ""."""
    return "" if value is None or value != value else str(value)
