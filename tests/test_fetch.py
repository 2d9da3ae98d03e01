"Fetching against a local server that misbehaves, unpacking hostile archives, and the sound of MELD's clips"
import hashlib
import io
import shutil
import stat
import subprocess
import tarfile
import threading
import wave
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import write_tone

from fastmer import unpack as module
from fastmer.corpora import CORPORA
from fastmer.errors import FastmerError
from fastmer.fetch import fetch
from fastmer.sources import SOURCES, File, Source, get_corpus
from fastmer.unpack import unpack

DATA = bytes(range(256))*4000 + b'the end'
MD5, SHA = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
FAST = dict(wait=0.001, timeout=5)


class Server(ThreadingHTTPServer):
    "Serves `data`; `drops`: after how many bytes to hang up, a request each; `codes`: what to answer first"
    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.data, self.etag, self.ranges, self.drops, self.codes, self.length = DATA, '"one"', True, [], [], None
        self.asked, self.headers, self.after, self.say_range, self.obeys = [], {}, None, None, True
        self.url = f'http://127.0.0.1:{self.server_port}/x/../../evil.zip'


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass

    def do_GET(self):
        o, data = self.server, self.server.data
        wanted, condition = self.headers.get('Range'), self.headers.get('If-Range')
        o.asked.append((wanted, condition))
        if o.codes and (code := o.codes.pop(0)):
            self.send_response(code)
            self.end_headers()
            return
        start = int(wanted[6:-1]) if wanted and o.ranges and (condition in (None, o.etag) or not o.obeys) else 0
        if start and start >= len(data):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start: self.send_header('Content-Range', o.say_range or f'bytes {start}-{len(data) - 1}/{len(data)}')
        if o.etag: self.send_header('ETag', o.etag)
        if o.length != '': self.send_header('Content-Length', o.length or len(data) - start)
        for name, value in o.headers.items(): self.send_header(name, value)
        self.end_headers()
        body = data[start:]
        self.wfile.write(body[:o.drops.pop(0)] if o.drops else body)
        if o.after: o.after()


@pytest.fixture
def server():
    o = Server()
    threading.Thread(target=o.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
    yield o
    o.shutdown()
    o.server_close()


@pytest.fixture
def said(): return []


def got(server, path, said, **kwargs): return fetch(server.url, path, say=said.append, **FAST | kwargs)


def alone(path): assert [o.name for o in path.parent.iterdir()] == [path.name]


def test_fetch_and_a_second_time(server, tmp_path, said):
    path = tmp_path/'a/b.zip'
    assert got(server, path, said, md5=MD5, sha256=SHA.upper(), size=len(DATA)) == path
    assert path.read_bytes() == DATA
    alone(path)
    assert 'checksum right' in said[-1]
    got(server, path, said, md5=MD5)
    assert len(server.asked) == 1
    assert 'already' in said[-1]


def test_fetch_without_a_checksum_says_so(server, tmp_path, said):
    got(server, tmp_path/'x', said)
    assert 'no checksum is published' in said[-1]


@pytest.mark.parametrize('checksum', [dict(md5=MD5), {}])
def test_fetch_goes_on_after_each_drop(server, tmp_path, said, checksum):
    server.drops = [100_000, 0, 200_000, 5]
    assert got(server, tmp_path/'x', said, **checksum).read_bytes() == DATA
    assert server.asked == [(None, None)] + [(f'bytes={n}-', '"one"') for n in (100_000, 100_000, 300_000, 300_005)]


def test_fetch_goes_on_in_a_later_run(server, tmp_path, said):
    server.drops = [500_000] + [0]*4
    with pytest.raises(FastmerError, match='run it again later, it goes on after 500,000 bytes'): got(server, tmp_path/'x', said, tries=3)
    server.drops = []
    got(server, tmp_path/'x', said)
    assert server.asked[-1] == ('bytes=500000-', '"one"')
    assert (tmp_path/'x').read_bytes() == DATA
    alone(tmp_path/'x')


def test_fetch_from_a_server_without_ranges(server, tmp_path, said):
    server.ranges, server.drops = False, [400_000, 300_000]
    assert got(server, tmp_path/'x', said).read_bytes() == DATA
    assert any('anew' in line for line in said)


@pytest.mark.parametrize('etag', ['', 'W/"weak"'])
def test_fetch_does_not_go_on_where_nothing_tells_the_file_is_the_same(server, tmp_path, said, etag):
    server.etag, server.drops = etag, [400_000]
    assert got(server, tmp_path/'x', said).read_bytes() == DATA
    assert server.asked == [(None, None)]*2


@pytest.mark.parametrize('etag', ['"one"', ''])
def test_fetch_where_the_file_changes_between_the_tries(server, tmp_path, said, etag):
    def change(): server.data, server.etag, server.after = DATA[::-1], etag and '"two"', None
    server.drops, server.after, server.etag = [400_000], change, etag
    sha = hashlib.sha256(DATA[::-1]).hexdigest()
    assert got(server, tmp_path/'x', said, sha256=sha).read_bytes() == DATA[::-1]
    assert any('anew' in line for line in said)


def test_fetch_server_that_ignores_the_condition(server, tmp_path, said):
    def change(): server.data, server.etag, server.after = DATA[::-1], '"two"', None
    server.drops, server.after, server.obeys = [400_000], change, False
    assert got(server, tmp_path/'x', said).read_bytes() == DATA[::-1]
    assert any('has changed' in line for line in said)


@pytest.mark.parametrize('answer', ['bytes 7-8/9', 'bytes 400000-500000/1024007', 'nonsense', 'bytes 0-1024006/1024007'])
def test_fetch_distrusts_another_range(server, tmp_path, said, answer):
    server.drops, server.say_range = [400_000], answer
    assert got(server, tmp_path/'x', said, md5=MD5).read_bytes() == DATA
    assert server.asked[-1][0] is None


def test_fetch_longer_part_than_the_file(server, tmp_path, said):
    (tmp_path/'x.part').write_bytes(DATA + b'more')
    assert got(server, tmp_path/'x', said, md5=MD5).read_bytes() == DATA


def test_fetch_spoilt_part_is_fetched_anew_once(server, tmp_path, said):
    (tmp_path/'x.part').write_bytes(b'?'*1000)
    assert got(server, tmp_path/'x', said, md5=MD5).read_bytes() == DATA
    assert [o[0] for o in server.asked] == ['bytes=1000-', None]


@pytest.mark.parametrize('text', ['', 'no json', '[1]', '{"url": "http://elsewhere/", "is": "a", "size": 5}'])
def test_fetch_spoilt_tag(server, tmp_path, said, text):
    (tmp_path/'x.part').write_bytes(b'?'*5)
    (tmp_path/'x.part.json').write_text(text)
    assert got(server, tmp_path/'x', said).read_bytes() == DATA


@pytest.mark.parametrize('checksum', [dict(md5='0'*32), dict(sha256='0'*64), dict(md5=MD5, sha256='0'*64)])
def test_fetch_wrong_checksum_keeps_nothing(server, tmp_path, said, checksum):
    with pytest.raises(FastmerError, match='nothing is kept'): got(server, tmp_path/'x', said, **checksum)
    assert [*tmp_path.iterdir()] == []


def test_fetch_wrong_size(server, tmp_path, said):
    with pytest.raises(FastmerError, match='not 5 as published'): got(server, tmp_path/'x', said, size=5)
    server.length = ''
    with pytest.raises(FastmerError, match='more than the 5 bytes'): got(server, tmp_path/'x', said, size=5, tries=2)
    assert not (tmp_path/'x').exists()


def test_fetch_what_is_there_but_wrong_is_left(server, tmp_path, said):
    (tmp_path/'x').write_bytes(b'mine')
    with pytest.raises(FastmerError, match='delete it'): got(server, tmp_path/'x', said, md5=MD5)
    assert (tmp_path/'x').read_bytes() == b'mine'


def test_fetch_server_that_promises_more_than_it_sends(server, tmp_path, said):
    server.length, server.ranges = len(DATA) + 10, False
    with pytest.raises(FastmerError, match='connection was lost'): got(server, tmp_path/'x', said, tries=3)
    assert not (tmp_path/'x').exists()
    assert len(server.asked) == 3


def test_fetch_codes(server, tmp_path, said):
    server.codes = [500, 503, 429]
    assert got(server, tmp_path/'x', said).read_bytes() == DATA
    server.codes, server.asked = [404], []
    with pytest.raises(FastmerError, match='the server answers 404'): got(server, tmp_path/'y', said)
    server.codes = [500]*9
    with pytest.raises(FastmerError, match='the server answers 500'): got(server, tmp_path/'y', said, tries=4)
    assert len(server.asked) == 5


def test_fetch_encoded_answer_and_foreign_addresses(server, tmp_path, said):
    server.headers = {'Content-Encoding': 'gzip'}
    with pytest.raises(FastmerError, match='not asked for'): got(server, tmp_path/'x', said)
    for url in ('file:///etc/passwd', 'ftp://x/y', '/etc/passwd'):
        with pytest.raises(FastmerError, match='no address'): fetch(url, tmp_path/'x')
    with pytest.raises(FastmerError, match='cannot be fetched'):
        fetch('http://127.0.0.1:1/x', tmp_path/'x', say=said.append, wait=0, tries=2)
    (tmp_path/'file').touch()
    with pytest.raises(FastmerError, match='cannot be written'): got(server, tmp_path/'file/x', said)


# Unpack

def make_zip(path, entries, compression=zipfile.ZIP_DEFLATED):
    "A zip of `(name, bytes)` or `(name, bytes, mode)`"
    with zipfile.ZipFile(path, 'w', compression) as z:
        for name, data, *mode in entries:
            info = zipfile.ZipInfo('x')
            info.filename, info.create_system, info.compress_type = name, 3, compression
            info.external_attr = (mode[0] if mode else stat.S_IFREG | 0o644) << 16
            z.writestr(info, data)
    return path


def make_tar(path, entries, mode='w'):
    "A tar of `(name, bytes)` or `(name, link or None, type)`"
    with tarfile.open(path, mode) as tar:
        for name, data, *kind in entries:
            info = tarfile.TarInfo(name)
            if kind: info.type, info.linkname = kind[0], data or ''
            else: info.size = len(data)
            tar.addfile(info, None if kind else io.BytesIO(data))
    return path


def make(path, entries):
    return make_zip(path, entries) if path.suffix == '.zip' else make_tar(path, entries, 'w:' + path.suffix[1:].replace('tar', ''))


FORMATS = ('a.zip', 'a.tar', 'a.tar.gz', 'a.tar.bz2', 'a.tar.xz')


def files(folder): return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('name', FORMATS)
def test_unpack(tmp_path, said, name):
    archive = make(tmp_path/name, [('wav/ü 1.wav', b'one'), ('./two', b'two'), ('wav/deep/er/x', b'')])
    folder = unpack(archive, tmp_path/'out/there', say=said.append)
    assert files(folder) == {'wav/ü 1.wav': b'one', 'two': b'two', 'wav/deep/er/x': b''}
    assert [path.name for path in folder.parent.iterdir()] == ['there']
    (folder/'two').write_bytes(b'mine')
    unpack(archive, folder, say=said.append)
    assert (folder/'two').read_bytes() == b'mine'
    assert 'already' in said[-1]


def refused(archive, match, **kwargs):
    root = archive.parent
    before = files(root)
    with pytest.raises(FastmerError, match=match) as e: unpack(archive, root/'out', **kwargs)
    assert '\n' not in str(e.value)
    assert files(root) == before  # nothing inside, nothing outside, nothing temporary
    assert [*root.glob('.*')] == []


@pytest.mark.parametrize('name', ['a.zip', 'a.tar.gz'])
@pytest.mark.parametrize(('evil', 'why'), [
    ('../x', 'leads out'), ('a/../../x', 'leads out'), ('a/../x', 'leads out'), ('/tmp/fastmer-evil', 'is absolute'), ('..', 'leads out'),
    ('..\\x', 'backslash'), ('C:/x', 'drive'), ('C:x', 'drive')])
def test_unpack_names_that_escape(tmp_path, name, evil, why):
    refused(make(tmp_path/name, [('good', b'1'), (evil, b'2')]), why)


def test_unpack_nul_in_a_name(tmp_path):
    path = make_zip(tmp_path/'a.zip', [('goodX/../evil', b'1')])
    path.write_bytes(path.read_bytes().replace(b'goodX', b'good\0'))
    refused(path, 'NUL')


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize('entries', [
    [('d/l', '../../x', SYM)], [('l', '/etc/passwd', SYM)], [('l', '../x', HARD)], [('l', '/etc/passwd', HARD)], [('l', '..', SYM)],
    [('l', '.', SYM), ('l/x', b'1')], [('l', 'nowhere', SYM)], [('l', 'l', SYM)], [('d/x', b'1'), ('l', 'd', SYM)],
    [('../l', 'x', SYM)], [('/l', 'x', HARD)],
    [('pipe', None, tarfile.FIFOTYPE)], [('null', None, tarfile.CHRTYPE)], [('disk', None, tarfile.BLKTYPE)],
    [('x', b'1'), ('x', b'2')]])
def test_unpack_tars_with_links_and_devices(tmp_path, entries):
    refused(make_tar(tmp_path/'a.tar', entries), 'not unpacked')


def test_unpack_file_that_is_a_folder_as_well(tmp_path):
    refused(make_tar(tmp_path/'a.tar', [('x', b'1'), ('x/y', b'2')]), 'cannot be unpacked')


@pytest.mark.parametrize(('target', 'kind'), [
    (b'../x', stat.S_IFLNK), (b'/etc/passwd', stat.S_IFLNK), (b'', stat.S_IFIFO), (b'', stat.S_IFCHR)])
def test_unpack_zips_with_links_and_devices(tmp_path, target, kind):
    refused(make_zip(tmp_path/'a.zip', [('l', target, kind | 0o777)]), 'not unpacked')


def test_unpack_links_that_stay_inside_become_copies(tmp_path):
    tar = make_tar(tmp_path/'a.tar', [('d/l', '../x', SYM), ('h', 'x', HARD), ('x', b'1')])
    zip_ = make_zip(tmp_path/'a.zip', [('d/l', b'../x', stat.S_IFLNK | 0o777), ('h', b'x', stat.S_IFLNK | 0o777), ('x', b'1')])
    for archive in (tar, zip_):
        folder = unpack(archive, tmp_path/f'{archive.suffix[1:]}-out')
        assert files(folder) == {'d/l': b'1', 'h': b'1', 'x': b'1'}
        assert not any(path.is_symlink() for path in folder.rglob('*'))


@pytest.mark.parametrize('name', FORMATS)
def test_unpack_bombs(tmp_path, name):
    refused(make(tmp_path/name, [('a', bytes(600_000)), ('b', bytes(600_000))]), 'more than 1,000,000 bytes', most_bytes=1_000_000)


def test_unpack_bomb_of_links(tmp_path):
    entries = [('a', bytes(100_000)), *((f'l{i}', 'a', HARD) for i in range(20))]
    refused(make_tar(tmp_path/'a.tar.gz', entries, 'w:gz'), 'more than 1,000,000 bytes', most_bytes=1_000_000)


def test_unpack_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'MOST_FILES', 5)
    for name in ('a.zip', 'a.tar'): refused(make(tmp_path/name, [(f'f{i}', b'') for i in range(6)]), 'more than 5 files')


def test_unpack_declared_size_that_lies(tmp_path):
    path = make_zip(tmp_path/'a.zip', [('a', bytes(600_000))])
    path.write_bytes(path.read_bytes().replace((600_000).to_bytes(4, 'little'), (10).to_bytes(4, 'little')))
    refused(path, 'broken')


def test_unpack_header_of_megabytes(tmp_path):
    info = tarfile.TarInfo('long')
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
    (tmp_path/'a.tar').write_bytes(info.tobuf() + b'x'*(2 << 20))
    refused(tmp_path/'a.tar', 'a header of more than a megabyte')


def test_unpack_locked_zip(tmp_path):
    path = make_zip(tmp_path/'a.zip', [('a', b'1')])
    data = bytearray(path.read_bytes())
    for sign, at in ((b'PK\3\4', 6), (b'PK\1\2', 8)): data[data.index(sign) + at] |= 1
    path.write_bytes(data)
    refused(path, 'password')


@pytest.mark.parametrize('name', FORMATS)
def test_unpack_cut_archives(tmp_path, name):
    path = make(tmp_path/name, [('a', bytes(range(256))*300), ('b', b'2')])
    path.write_bytes(path.read_bytes()[:len(path.read_bytes())*2//5])
    refused(path, 'broken')


def test_unpack_what_is_no_archive(tmp_path):
    for data in (b'', b'<html>Not found</html>', bytes(range(256))*9, b'PK\3\4', b'\x1f\x8b'):
        (tmp_path/'x').write_bytes(data)
        if data: refused(tmp_path/'x', 'broken')
    with pytest.raises(FastmerError, match='is not there'): unpack(tmp_path/'none', tmp_path/'out')


# Corpora

@pytest.mark.parametrize(('args', 'code', 'part'), [
    ([], 0, 'by hand'), (['esd', 'none'], 0, 'Google Drive'), (['nope'], 1, 'Error: nothing is known'), (['savee'], 0, 'register')])
def test_get_corpus_script(tmp_path, monkeypatch, args, code, part):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(script('get_corpus').main, args)
    assert done.exit_code == code
    assert part in done.output


def test_every_corpus_has_a_source():
    assert set(SOURCES) == set(CORPORA) - {'table', 'folders'}
    for name, o in SOURCES.items():
        assert o.licence, name
        assert o.cite, name
        assert bool(o.files) != bool(o.how), name
        for file in o.files:
            assert file.url.startswith('https://'), name
            assert Path(file.name).name == file.name, name
            assert len(file.md5) in (0, 32), name
            assert len(file.sha256) in (0, 64), name


def emodb_zip(tmp_path):
    with zipfile.ZipFile(tmp_path/'served.zip', 'w') as z:
        for i, name in enumerate(('03a01Fa', '03a01Wa', '08a02Fa', '08a02Wa')):
            z.write(write_tone(tmp_path/'tones'/f'{name}.wav', seed=i), f'emodb/wav/{name}.wav')
        z.writestr('emodb/db.yaml', 'name: emodb')
    return (tmp_path/'served.zip').read_bytes()


def test_get_corpus(server, tmp_path, said, monkeypatch):
    server.data = emodb_zip(tmp_path)
    file = File(server.url, 'emodb.zip', md5=hashlib.md5(server.data).hexdigest(), size=len(server.data))
    monkeypatch.setitem(SOURCES, 'emodb', Source('a licence', 'a paper', 'a page', (file,)))
    for _ in 'ab':
        said.clear()
        corpus = get_corpus('emodb', tmp_path/'out', said.append, **FAST)
        assert len(corpus.manifest) == 4
        text = '\n'.join(said)
        for part in ('Licence: a licence', 'Cite: a paper', '4 utterances of emodb', '4 of the 535'): assert part in text
    assert len(server.asked) == 1


def test_get_corpus_archives_in_an_archive(server, tmp_path, said, monkeypatch):
    head = 'Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID,StartTime,EndTime\n'
    rows = ''.join(f'Hey,Joey,{o},0,{i},"00:00:0{i},0","00:00:0{i},9"\n' for i, o in enumerate(('joy', 'joy', 'anger', 'anger')))
    entries = [('train/train_splits/dia0_utt0.mp4', b''), ('train/train_sent_emo.csv', (head + rows).encode())]
    inner = make_tar(tmp_path/'i.tar.gz', entries, 'w:gz').read_bytes()
    server.data = make_tar(tmp_path/'o.tar.gz', [('MELD.Raw/train.tar.gz', inner), ('MELD.Raw/README', b'')], 'w:gz').read_bytes()
    monkeypatch.setitem(SOURCES, 'meld', Source('l', 'c', 'p', (File(server.url, 'MELD.Raw.tar.gz', inner=('train.tar.gz',)),)))
    for _ in 'ab': assert len(get_corpus('meld', tmp_path/'out', said.append, **FAST).manifest) == 4
    assert len(server.asked) == 1


def test_get_corpus_behind_a_form(tmp_path, said):
    assert get_corpus('iemocap', tmp_path/'none', said.append) is None
    assert 'fill in the release form' in '\n'.join(said)
    (tmp_path/'x').mkdir()
    with pytest.raises(FastmerError): get_corpus('iemocap', tmp_path, said.append)
    with pytest.raises(FastmerError, match='did you mean iemocap'): get_corpus('iemocab', tmp_path)


# MELD's clips

def script(name):
    spec = spec_from_file_location(f'script_{name}', Path(__file__).parents[1]/'data_scripts'/f'{name}.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    "Two mp4 clips with sound, one without, one broken, a copy, a hidden file and a stray name"
    if not shutil.which('ffmpeg'): pytest.skip('no ffmpeg to make clips with')
    root = tmp_path_factory.mktemp('meld')
    for name in ('train/train_splits', 'dev/dev_splits_complete', 'output_repeated_splits_test'): (root/name).mkdir(parents=True)
    clip, sound = root/'train/train_splits/dia0_utt0.mp4', ['-f', 'lavfi', '-i', 'sine=d=0.5:r=44100']
    video = ['-f', 'lavfi', '-i', 'color=s=16x16:d=0.5:r=5', '-c:v', 'mpeg4']
    for path, given in ((clip, [*sound, *video, '-ac', '2', '-c:a', 'aac']), (root/'dev/dev_splits_complete/dia1_utt2.mp4', video)):
        subprocess.run(['ffmpeg', '-v', 'error', '-nostdin', *given, str(path)], check=True, timeout=60)
    shutil.copy(clip, root/'output_repeated_splits_test/dia3_utt4.mp4')
    shutil.copy(clip, root/'output_repeated_splits_test/final_videos_testdia3_utt4.mp4')
    (root/'train/train_splits/dia125_utt3.mp4').write_bytes(clip.read_bytes()[:300])
    (root/'train/train_splits/._dia9_utt9.mp4').write_bytes(b'macOS')
    return root


@pytest.mark.parametrize('ffmpeg', [None, ''])
def test_meld_extract(clips, tmp_path, ffmpeg):
    if ffmpeg == '': pytest.importorskip('av')
    root, meld = shutil.copytree(clips, tmp_path/'m'), script('meld')
    new, old, skipped = meld.extract(root, ffmpeg)
    assert (new, old) == (2, 0)
    wavs = sorted(path.relative_to(root).as_posix() for path in (root/'audio').rglob('*') if path.is_file())
    assert wavs == ['audio/test/dia3_utt4.wav', 'audio/train/dia0_utt0.wav']
    with wave.open(str(root/wavs[0])) as f:
        assert (f.getnchannels(), f.getframerate(), f.getsampwidth()) == (1, 16000, 2)
        assert 0.4 < f.getnframes()/16000 < 0.7
        assert any(f.readframes(8000))
    reasons = {path.name: reason for path, reason in skipped}
    assert set(reasons) == {'dia125_utt3.mp4', 'dia1_utt2.mp4', 'final_videos_testdia3_utt4.mp4'}
    (root/wavs[1]).unlink()
    assert meld.extract(root, ffmpeg)[:2] == (1, 1)


def test_meld_extract_wants_clips(tmp_path):
    with pytest.raises(FastmerError, match='holds no clip'): script('meld').extract(tmp_path, 'ffmpeg')
    with pytest.raises(FastmerError, match='no folder'): script('meld').extract(tmp_path/'x', 'ffmpeg')


def test_meld_extract_hung_ffmpeg(clips, tmp_path, monkeypatch):
    root, meld = shutil.copytree(clips, tmp_path/'m'), script('meld')
    monkeypatch.setattr(meld, 'SECONDS', 0.1)
    (tmp_path/'slow').write_text('#!/bin/sh\nexec sleep 20\n')
    (tmp_path/'slow').chmod(0o755)
    new, _, skipped = meld.extract(root, str(tmp_path/'slow'))
    assert new == 0
    assert sum('was not done' in reason for _, reason in skipped) == 4
