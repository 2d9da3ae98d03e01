"Broken tables: whatever the bytes are, a manifest or one sentence that names the file, and soon; no row is lost without a word"
import csv
import io
import json
import shutil
import time
import zipfile
from functools import partial

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import PITCHES, write_tone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_corpora_natural import EXAMPLES, HEAD, TABLES, make, meld_line

from fastmer.cli import main
from fastmer.corpora import read_corpus
from fastmer.corpora.table_io import load_table
from fastmer.errors import FastmerError
from fastmer.labels import label_map, parse_map
from fastmer.manifest import as_manifest, check_manifest, read_manifest, write_manifest
from fastmer.prepare import Prepared, prepare_corpus

HEADER = ['id', 'audio', 'text', 'label', 'speaker', 'split', 'arousal']
WORDS = ['Ja, "gut"', 'schön; so', 'zwei\nZeilen', 'она | да', '', 'no']
ROWS = [[f'u{n:02d}', f'wav/u{n:02d}.wav', WORDS[n % 6], ('sad', 'happy', 'angry')[n % 3], f'{n % 4:02d}', ('train', 'test')[n % 2],
         f'{n/10}'] for n in range(18)]
ODD = [
    '', ' ', '\t', '\x00', 'a\x00b', 'a\nb', 'a\rb', 'a\r\nb', '\x1b[31m', '\u2028', '\ufeff', '\u202e', '"', "'", '""', ',', ';;;', '\\',
    '../x', '/abs', '/etc/passwd', 'a/b', 'a\\b', 'CON', '.', '..', '-x', '~', '~nobody/a', 'u02', 'U02', 'ü'*300, '\U0001f600'*60,
    'NaN', 'nan', 'NA', 'None', '0', '-1', '1e999', '1e300', 'inf', '1,5', '9'*5000, '=1+1', '[/b]', '{x}', '%s', 'dev',
    'x'*140_000, 'wav', 'wav/none.wav', 'wav/u01.wav#t=1,2', f'wav/u01.wav#t=9,{"9"*400}']


def survives(read, path, what):
    "What `read(path)` gives, `None` where it refuses in one sentence that names `path`; fails where it breaks the promise"
    began, got, error = time.process_time(), None, None
    try: got = read(path)
    except FastmerError as e: error = str(e)
    assert time.process_time() - began < 5, f'{what}: too slow'
    if error is not None: assert (str(path) in error, len(error.splitlines())) == (True, 1), f'{what}: {error[:300]!r}'
    return got


def named(corpus):
    "Every id that a corpus tells of, used or skipped, and the stem of every recording"
    rows = [*corpus.manifest[['id', 'audio']].itertuples(index=False, name=None), *((row['id'], row['audio']) for row in corpus.skipped)]
    return {name for id_, audio in rows for name in (id_, audio.rpartition('/')[2].partition('.')[0])}


# How bytes are broken

def flip(data, rng):
    for at in rng.integers(0, len(data), rng.integers(1, 6)): data[at] ^= 1 << rng.integers(8)


def cut(data, rng): del data[int(rng.integers(0, len(data))):]


def drop(data, rng):
    at = int(rng.integers(0, len(data)))
    del data[at:at + int(rng.integers(1, 30))]


def insert(data, rng):
    at = int(rng.integers(0, len(data)))
    data[at:at] = rng.choice([b'"', b'""', b',', b';', b'\t', b'\n', b'\r', b'\r\n', b'\n\n', b'\0', b'\xe4', b'\xff\xfe', b'\xef\xbb\xbf'])


def scramble(data, rng):
    at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 40))
    data[at:at + n] = rng.bytes(n)


def double(data, rng): data += data[int(rng.integers(0, len(data))):]


def swap(data, rng):
    old, new = (rng.choice([b',', b';', b'\t', b'\n', b'"', b' ', b'|']) for _ in range(2))
    data[:] = data.replace(old, new, int(rng.integers(1, 20)) if rng.random() < 0.5 else -1)


def recode(data, rng):
    text = data.decode('utf-8', 'replace')
    data[:] = text.encode(rng.choice(['utf-16', 'utf-16-le', 'utf-32', 'latin-1', 'cp1252', 'gb18030', 'utf-8-sig', 'utf-7']), 'replace')


def line_ends(data, rng): data[:] = data.replace(b'\n', rng.choice([b'\r\n', b'\r', b'\n\r', b'\n\n', b'\x0b', b' ']))


BREAK = [flip, cut, drop, insert, insert, scramble, double, swap, recode, line_ends]


def breakages(whole, times, salt):
    "`(what, bytes)` of `times` ways to break `whole`, each third of them in two ways at once"
    for n in range(times):
        rng, data, ways = np.random.default_rng([n, salt]), bytearray(whole), [BREAK[n % len(BREAK)]]
        if n % 3 == 0: ways.append(BREAK[n//3 % len(BREAK)])
        for way in ways:
            if data: way(data, rng)
        yield f'{"+".join(way.__name__ for way in ways)} {n}', bytes(data)


# How tables are broken, cell by cell

def odd_cells(rows, rng):
    for _ in range(rng.integers(1, 4)): rows[rng.integers(1, len(rows))][rng.integers(len(rows[0]))] = ODD[rng.integers(len(ODD))]


def odd_column(rows, rng):
    value, at = ODD[rng.integers(len(ODD))], rng.integers(len(HEADER))
    for row in rows[1:]: row[at] = value


def odd_header(rows, rng): rows[0][rng.integers(len(HEADER))] = [*ODD, *HEADER, 'Label', 'path'][rng.integers(len(ODD) + len(HEADER) + 2)]


def lost_column(rows, rng):
    at = rng.integers(len(HEADER))
    for row in rows: del row[at]


def ragged(rows, rng):
    row = rows[rng.integers(len(rows))]
    if rng.random() < 0.5: del row[int(rng.integers(len(row))):]
    else: row += ['', *['more']*int(rng.integers(3))]


def twice(rows, rng): rows.insert(int(rng.integers(1, len(rows))), [*rows[rng.integers(len(rows))]])


def blank_rows(rows, rng): rows[int(rng.integers(len(rows))):0] = [[], ['', ' '], ['']*9]


def wide(rows, rng):
    for row in rows: row += [f'c{n}' if row is rows[0] else '' for n in range(1000)]


def few(rows, rng): del rows[int(rng.integers(3)):]


def shuffled(rows, rng): rng.shuffle(rows)


RESHAPE = [odd_cells, odd_cells, odd_cells, odd_column, odd_header, lost_column, ragged, twice, blank_rows, few, shuffled, wide]


def as_text(rows, **kwargs):
    out = io.StringIO()
    csv.writer(out, **kwargs).writerows(rows)
    return out.getvalue().encode()


def as_json(rows): return json.dumps([dict(zip(rows[0], row, strict=False)) for row in rows[1:]]).encode() if rows else b'[]'


def as_lines(rows): return '\n'.join(map(json.dumps, rows)).encode()


def as_excel(rows):
    openpyxl = pytest.importorskip('openpyxl')
    book, out = openpyxl.Workbook(), io.BytesIO()
    for row in rows: book.active.append([openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub('', cell)[:32767].replace('=', '') for cell in row])
    book.save(out)
    return out.getvalue()


FORMS = {'csv': as_text, 'semicolons.csv': partial(as_text, delimiter=';'), 'tsv': partial(as_text, delimiter='\t'),
         'txt': partial(as_text, delimiter='|', quoting=csv.QUOTE_ALL, lineterminator='\n'), 'xlsx': as_excel}
NO_TABLE = {'json': as_json, 'jsonl': as_lines}


@pytest.fixture
def folder(tmp_path):
    "A folder with the recordings of `ROWS`, one of which is a folder and two of which are not there"
    make(tmp_path, *(row[1] for row in ROWS[3:]))
    (tmp_path/ROWS[2][1]).mkdir()
    return tmp_path


def read_table(path): return read_corpus('table', path)


@pytest.mark.parametrize('form', FORMS)
def test_tables_with_odd_cells_and_shapes(folder, form):
    path, read = folder/f'table.{form}', 0
    for n in range(12 if form == 'xlsx' else 24):
        rng, rows, way = np.random.default_rng([n, len(form)]), [[*row] for row in (HEADER, *ROWS)], RESHAPE[n % len(RESHAPE)]
        way(rows, rng)
        path.write_bytes(FORMS[form](rows))
        corpus = survives(read_table, path, f'{form} {way.__name__} {n}')
        if corpus is None: continue
        read += 1
        assert len(corpus.manifest) + len(corpus.skipped) == sum(any(cell.strip() for cell in row) for row in rows) - 1, (way, n)
        if way is odd_cells: assert {row[0] for row in ROWS if row in rows} <= named(corpus), n
    assert read > 3


@pytest.mark.parametrize('form', [*FORMS, *NO_TABLE])
def test_broken_bytes(folder, form):
    rows = [[cell.replace('\n', ' ') for cell in row] for row in (HEADER, *ROWS)]
    path, read, whole = folder/f'table.{form}', 0, (FORMS | NO_TABLE)[form](rows)
    for what, data in breakages(whole, 40, len(form)):
        path.write_bytes(data)
        corpus = survives(read_table, path, f'{form} {what}')
        if corpus is None: continue
        read += 1
        assert len(corpus.manifest) + len(corpus.skipped) == len(load_table(path)), what
        if form == 'xlsx' or 'id' not in load_table(path) or any('double quotes' in note for note in corpus.notes): continue
        lines = set(data.replace(b'\r', b'\n').split(b'\n'))
        whole_lines = {row[0] for row, line in zip(rows, whole.replace(b'\r', b'').split(b'\n'), strict=False) if line in lines}
        assert whole_lines - {'id'} <= named(corpus), what
    assert read or form in NO_TABLE


@pytest.mark.parametrize('part', ['xl/worksheets/sheet1.xml', 'xl/workbook.xml', '[Content_Types].xml', 'xl/_rels/workbook.xml.rels'])
def test_excel_that_is_broken_inside(folder, part):
    whole, path = as_excel([HEADER, *ROWS]), folder/'table.xlsx'
    for what, data in breakages(zipfile.ZipFile(io.BytesIO(whole)).read(part), 30, len(part)):
        path.write_bytes(with_part(whole, part, data))
        survives(read_table, path, f'{part} {what}')


def with_part(whole, part, data):
    "The Excel file `whole` with `data` for its `part`"
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, 'w') as new:
        for name in old.namelist(): new.writestr(name, data if name == part else old.read(name))
    return out.getvalue()


@pytest.mark.parametrize('extent', [b'A1', b'A1:C4', b'B2:G19', b'A1:XFD1048576', b''])
def test_excel_rows_beyond_the_extent_it_claims(folder, extent):
    whole, path, part = as_excel([HEADER, *ROWS]), folder/'table.xlsx', 'xl/worksheets/sheet1.xml'
    data = zipfile.ZipFile(io.BytesIO(whole)).read(part)
    assert b'"A1:G19"' in data
    path.write_bytes(with_part(whole, part, data.replace(b'"A1:G19"', b'"' + extent + b'"')))
    corpus = survives(read_table, path, extent)
    assert named(corpus) == {row[0] for row in ROWS}


def test_excel_row_of_a_number_that_excel_does_not_have(folder):
    whole, path, part = as_excel([HEADER, *ROWS]), folder/'table.xlsx', 'xl/worksheets/sheet1.xml'
    data = zipfile.ZipFile(io.BytesIO(whole)).read(part).replace(b'<row r="19"', b'<row r="999999999"')
    path.write_bytes(with_part(whole, part, data))
    assert survives(read_table, path, 'far row') is None


def test_random_bytes(tmp_path):
    magics = [b'', b'\xff\xfe', b'\xfe\xff', b'\xef\xbb\xbf', b'PK\x03\x04', b'\xd0\xcf', b'id,text,label\n', b'sep=;\n', b'sep=\r\n']
    for n in range(100):
        rng = np.random.default_rng(n)
        (path := tmp_path/f't{rng.choice([".csv", ".tsv", ".xlsx", ".xlsm", ""])}').write_bytes(
            magics[n % len(magics)] + rng.bytes(int(rng.integers(0, 3000))))
        survives(read_table, path, f'random {n}')
        survives(read_manifest, path, f'random {n}')


@pytest.mark.parametrize('data', [b'"' + b'x'*300_000, b'x'*300_000 + b',label\n', b','*300_000, b'\n'*300_000 + b'id', b'{"a": '*5000,
                                  ','.join(f'c{n}' for n in range(10_000)).encode() + b',text,label\n' + b','*10_000 + b'a,b\n'])
def test_huge_tables(tmp_path, data):
    for name in ('t.csv', 't.xlsx'):
        (tmp_path/name).write_bytes(data)
        survives(read_table, tmp_path/name, name)


def test_a_quote_that_takes_rows_in_is_told(folder):
    (folder/'t.csv').write_text('id,text,label\na,"ja,sad\nb,nein,happy\nc,so",sad\nd,"zwei\nZeilen, ja",sad\n')
    corpus = read_table(folder/'t.csv')
    assert corpus.notes == ['1 rows, the first row 1, hold what looks like other rows: see that double quotes are closed']


# Properties

CELL = st.text(st.characters(exclude_categories=['Cs']), max_size=12) | st.sampled_from([value for value in ODD if len(value) < 1000])
TABLE = st.lists(st.tuples(CELL, CELL, CELL, CELL), min_size=1, max_size=8)
often = settings(max_examples=50, deadline=5000, derandomize=True, database=None, phases=[Phase.generate],
                 suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@often
@given(rows=TABLE, audio=st.booleans())
def test_every_row_is_used_or_skipped(tmp_path, rows, audio):
    (path := tmp_path/'t.csv').write_bytes(as_text([('id', 'audio' if audio else 'speaker', 'text', 'label'), *rows]))
    corpus = survives(read_table, path, rows)
    strip = lambda text: text.replace('\r\n', '\n').replace('\r', '\n').strip()
    told = [row for row in rows if any(map(strip, row))]
    if corpus is None: return
    assert sorted([*corpus.manifest.id, *(row['id'] for row in corpus.skipped)]) == sorted(strip(row[0]) for row in told)
    words = {strip(row[0]): strip(row[2]) for row in told}
    assert all(words[row.id] == row.text for row in corpus.manifest.itertuples())


@often
@given(data=st.binary(max_size=200), head=st.sampled_from([b'', b'id,text,label\n', b'\xff\xfe', b'id;text;label\r\n"']))
def test_any_bytes(tmp_path, data, head):
    (path := tmp_path/'t.csv').write_bytes(head + data)
    corpus = survives(read_table, path, data)
    if corpus is not None: assert len(corpus.manifest) + len(corpus.skipped) == len(load_table(path))
    survives(read_manifest, path, data)


@often
@given(rows=TABLE)
def test_what_is_a_manifest_is_the_same_after_a_round_trip(tmp_path, rows):
    df = as_manifest([dict(id=f'u{n}', label='sad', text=f'{text}.', speaker=speaker, script=script, start=start)
                      for n, (text, speaker, script, start) in enumerate(rows)])
    pd.testing.assert_frame_equal(read_manifest(write_manifest(df, tmp_path/'m.csv')), df)


@often
@given(text=CELL | st.lists(st.tuples(CELL, CELL)).map(lambda pairs: ','.join(map('='.join, pairs))), labels=CELL)
def test_any_map_and_labels(text, labels):
    try: out = label_map(dict(sad='sad', hap='happy'), labels, parse_map(text))
    except FastmerError as e: out, error = {}, str(e)
    else: error = '--map'
    assert error.startswith(('--map', '--labels'))
    assert {*out} <= {'sad', 'hap'}


# Folders: names that are not UTF-8, prepared folders that were edited

def test_names_that_are_not_utf_8(tmp_path):
    try: (root := tmp_path/'caf\udce9').mkdir()
    except OSError: pytest.skip('this file system takes UTF-8 alone')
    (root/'t\udce9.csv').write_text('id,text,label\na,ja,sad\nb,so,sad\n')
    made = prepare_corpus('table', root/'t\udce9.csv', tmp_path/'out', jobs=1)
    again = Prepared.open(made.path)
    assert (again.root, again.about) == (root, made.about)
    assert [*again.manifest.corpus] == ['t\\xe9']*2


def call(*args):
    "Fails where `fastmer args` ends in a traceback, in another exit code, or in more than one sentence on stderr"
    began, result = time.process_time(), CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (0, 1, 2)
    assert time.process_time() - began < 5
    said = result.stderr.splitlines()
    assert [line[:9] for line in said] == (['fastmer: '] if result.exit_code and not result.stdout else []), said
    return result.exit_code


@pytest.fixture
def edited(prepared, tmp_path):
    "A prepared folder to spoil"
    for name in ('prepared.json', 'manifest.csv'): shutil.copy(prepared.path/name, tmp_path)
    return tmp_path


def test_manifests_that_are_broken(edited):
    path, codes = edited/'manifest.csv', set()
    whole = path.read_bytes()
    for n, (what, data) in enumerate(breakages(whole, 40, 1)):
        path.write_bytes(data)
        got = survives(read_manifest, path, what)
        if got is not None: check_manifest(got)
        if n % 8 == 0 or (got is not None and n % 6 == 0): codes |= {call('split', edited), call('audit', edited, '--no-audio')}
    assert codes >= {0, 1}


def test_manifests_with_odd_cells(prepared, edited):
    whole, path = [*csv.reader(io.StringIO((prepared.path/'manifest.csv').read_text('utf-8')))], edited/'manifest.csv'
    for n in range(42):
        rng, rows = np.random.default_rng(n), [[*row] for row in whole]
        odd_cells(rows, rng)
        path.write_bytes(as_text(rows))
        got = survives(read_manifest, path, n)
        if got is not None: assert len(got) == len(rows) - 1
        if n % 8 == 0: call('split', edited), call('audit', edited, '--no-audio')


@pytest.mark.parametrize(('text', 'says'), [
    ('id,text,label\na,ja,sad,x\nb,so,sad,x\n', 'rows longer than its header'),
    ('id,label,text,label\na,b,c,d\n', "two columns named 'label'"),
    ('id,text,label\na,ja,sad\nb,so,sad,x\n', 'Expected 3 fields in line 3, saw 4')])
def test_manifests_that_are_no_rectangle(tmp_path, text, says):
    (tmp_path/'manifest.csv').write_text(text)
    with pytest.raises(FastmerError, match=says) as error: read_manifest(tmp_path/'manifest.csv')
    assert '\n' not in str(error.value)


def test_prepared_json_that_is_broken(edited):
    path, codes = edited/'prepared.json', set()
    for _, data in breakages(path.read_bytes(), 60, 2):
        path.write_bytes(data)
        codes |= {call('split', edited)}
    assert codes == {0, 1}


# A table of recordings that are broken in different ways

SPOIL = [lambda path: path.unlink(), lambda path: path.write_bytes(b''), lambda path: path.write_text('no sound'),
         lambda path: path.write_bytes(path.read_bytes()[:30]), lambda path: path.write_bytes(path.read_bytes()[:900]),
         lambda path: (path.unlink(), path.mkdir()), lambda path: path.write_bytes(path.read_bytes()[:44])]


@pytest.mark.parametrize('jobs', [1, 2])
def test_every_row_stands_in_the_manifest_or_in_skipped(tmp_path, jobs):
    rows = [dict(id=f'é {n}', audio=f'wav/{n}.wav', label=[*PITCHES][n % 4], text=f'Satz {n}') for n in range(60)]
    for n, row in enumerate(rows): write_tone(tmp_path/row['audio'], seconds=0.1, seed=n)
    for n, spoil in enumerate(SPOIL): spoil(tmp_path/rows[3*n]['audio'])
    rows[40]['label'], rows[41]['audio'], rows[42]['audio'], rows[43] = '', '', 'wav/43.wav#t=5,6', dict(rows[43], text='a\rb\n')
    rows[44] |= dict(audio='', text='')
    pd.DataFrame(rows).to_csv(tmp_path/'t.csv', index=False, lineterminator='\r\n')
    made = prepare_corpus('table', tmp_path/'t.csv', tmp_path/'out', jobs=jobs)
    skipped = pd.read_csv(made.path/'skipped.csv', dtype=str, keep_default_na=False)
    used = set(read_manifest(made.path/'manifest.csv').id)
    assert set(skipped.id) == {rows[n]['id'] for n in (*range(0, 3*len(SPOIL), 3), 40, 42, 44)}
    assert used | set(skipped.id) == {row['id'] for row in rows}
    assert not used & set(skipped.id)
    assert (skipped.reason != '').all()
    assert made.about['utterances'] + made.about['skipped'] == len(rows)


# Tables of other corpora

def esd_texts(root):
    for s in (10, 11): (root/f'00{s}/00{s}.txt').write_text(f'00{s}_000351\t打远一看，\t生气\n00{s}_001051\tIt’s me\tSad\n', 'utf-8')


def shemo_texts(root):
    entries = {path.name: dict(speech_name=path.stem, transcript=f'سلام {path.stem}') for path in root.rglob('*.wav')}
    (root/'modified_shemo.json').write_text(json.dumps(entries), 'utf-8')


METADATA = {'msp-podcast': ('Labels/labels_consensus.csv', lambda root: None), 'meld': ('train_sent_emo.csv', lambda root: None),
            'esd': ('0011/0011.txt', esd_texts), 'shemo': ('modified_shemo.json', shemo_texts)}


@pytest.mark.parametrize('name', METADATA)
def test_broken_metadata(tmp_path, name):
    file, write = METADATA[name]
    make(TABLES.get(name, make)(tmp_path), *EXAMPLES[name])
    write(tmp_path)
    path, recordings, read = tmp_path/file, {*EXAMPLES[name]}, 0
    for what, data in breakages(path.read_bytes(), 40, len(name)):
        path.write_bytes(data)
        corpus = survives(lambda path: read_corpus(name, tmp_path), tmp_path, f'{name} {what}')
        if corpus is None: continue
        read += 1
        assert recordings <= {*corpus.manifest.audio, *(row['audio'] for row in corpus.skipped)}, what
        write_manifest(corpus.manifest, tmp_path/'manifest.csv')
        (tmp_path/'manifest.csv').unlink()
    assert read > 3


@pytest.mark.parametrize(('name', 'text', 'says'), [
    ('meld', HEAD, 'no row of the tables of MELD is there'), ('meld', HEAD + meld_line(0, 0) + '1,"Hey', 'breaks off within double quotes'),
    ('meld', HEAD + meld_line(0, 0, text='x'*140_000), 'field larger than field limit'),
    ('meld', HEAD + meld_line(0, 0, start='9'*5000 + ':0:0') + meld_line(1, 0), ''),
    ('msp-podcast', 'FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\na.wav,"A\n', 'breaks off within double quotes'),
    ('shemo', '['*100_000, 'cannot be read as the transcripts of ShEMO'),
    ('shemo', '[{"speech_name": "F01A01", "transcript": "\\ud800"}]', '')])
def test_metadata_that_is_odd(tmp_path, name, text, says):
    make(TABLES.get(name, make)(tmp_path), *EXAMPLES[name])
    (tmp_path/METADATA[name][0]).write_text(text)
    if says:
        with pytest.raises(FastmerError, match=says): read_corpus(name, tmp_path)
    else: assert read_manifest(write_manifest(read_corpus(name, tmp_path).manifest, tmp_path/'m.csv')).label.nunique() > 0
