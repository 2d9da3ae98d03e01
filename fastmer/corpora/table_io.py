"Delimited text or `.xlsx` -> a table of strings: encodings, delimiters, quotes"
import csv
import io
import re
from collections import Counter

import pandas as pd

from ..errors import FastmerError, did_you_mean

DELIMITERS = ',;\t|'
EXCEL_ROWS = 1_048_576  # a sheet has no more


def load_table(path, delimiter=None, sheet=None):
    "The table in `path` as stripped `str`, blank rows left out; raises `FastmerError` that names the line where it breaks"
    if path.is_dir(): raise FastmerError(f'{path} is a folder: give the table itself, or read it as the corpus folders')
    excel = path.suffix.lower() in ('.xlsx', '.xlsm')
    if sheet is not None and not excel: raise FastmerError(f'{path} has no sheets: --sheet goes with .xlsx files')
    lines = [(n, cells) for n, cells in (excel_rows(path, sheet) if excel else text_rows(path, delimiter)) if any(cells)]
    if not lines: raise FastmerError(f'{path} is empty: give a table with a header and one row an utterance')
    (_, header), *rows = lines
    header = [' '.join(name.split()) for name in header]
    if not rows: raise FastmerError(f'{path} holds a header but no row: give a table with one row an utterance')
    if twice := [name for name, n in Counter(header).items() if name and n > 1]:
        raise FastmerError(f'{path} has two columns named {twice[0]!r}: rename one of them')
    for n, cells in rows:
        if any(cells[len(header):]):
            raise FastmerError(f'{path}, line {n}: {len(cells)} cells under a header of {len(header)}; put texts that hold the '
                               'delimiter in double quotes, or name the right one with --delimiter')
    rows = [(cells + ['']*len(header))[:len(header)] for _, cells in rows]
    return pd.DataFrame(rows, columns=header, dtype=object)[[name for name in header if name]]


def text_rows(path, delimiter=None):
    "`[(line, cells)]` of a delimited text file"
    text = read_text(path)
    if said := re.match(r'sep=([^"\n])\n', text): text, delimiter = text[said.end():], delimiter or said[1]  # Excel's own
    delimiter = {'tab': '\t', '\\t': '\t'}.get(delimiter, delimiter) or guess_delimiter(text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise FastmerError(f'--delimiter wants one character or the word tab, but got {delimiter!r}')
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)[:1 + (delimiter == '\t')]:  # many a TSV takes quotes as they are
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)
        try: return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
        except csv.Error as e: error = f'{path}, line {reader.line_num}: a double quote is out of place ({e})'
    raise FastmerError(f'{error}: close it, and double it within a text')


def read_text(path):
    "Text in UTF-8, UTF-16 (Excel's Unicode text) or Windows-1252, its line ends as `\\n`"
    try: data = path.read_bytes()
    except OSError as e: raise FastmerError(f'{path} cannot be read: {e.strerror}') from None
    try: text = data.decode('utf-16' if data[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig')
    except UnicodeDecodeError: text = data.decode('cp1252', 'replace')
    if '\0' in text: raise FastmerError(f'{path} is no text: give a table as CSV in UTF-8 or as .xlsx')
    return text.lstrip('\ufeff').replace('\r\n', '\n').replace('\r', '\n')  # files put together have a second byte order mark


def guess_delimiter(text):
    "The delimiter that splits the header into most columns: texts hold commas, column names seldom do"
    first = next((line for line in text.splitlines() if line.strip()), '')[:csv.field_size_limit()]
    return max(DELIMITERS, key=lambda c: len(next(csv.reader([first], delimiter=c), [])))


def excel_rows(path, sheet=None):
    "`[(row, cells)]` of one sheet of an Excel file, the first when `None`"
    try:
        from openpyxl import load_workbook
    except ImportError: raise FastmerError(f'{path} needs openpyxl: pip install fastmer[excel]') from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        pages = {page.title: sheet_rows(page)
                 for page in book.worksheets if page.title == sheet or (sheet is None and page is book.worksheets[0])}
        names = [page.title for page in book.worksheets]
        book.close()
    except Exception as e:  # openpyxl raises whatever the broken part of the file leads to
        raise FastmerError(f'{path} is no readable Excel file ({type(e).__name__}): save it again as .xlsx or CSV') from None
    if not pages: raise FastmerError(f'{path} has no sheet {sheet!r}{did_you_mean(sheet, names)}; it has {", ".join(names)}')
    return next(iter(pages.values()))


def sheet_rows(page):
    "`[(row, cells)]` of a sheet, all that it holds: the extent that the file gives it may be wrong"
    page.reset_dimensions()
    rows = []
    for n, cells in enumerate(page.iter_rows(values_only=True), 1):
        if n > EXCEL_ROWS: raise ValueError('a row has a number that Excel does not')
        if cells: rows.append((n, [as_text(v) for v in cells]))
    return rows


def as_text(cell):
    "`None` -> `''`, `3.0` -> `3`"
    if cell is None: return ''
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()
