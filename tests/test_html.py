"One page that holds all it shows: well-formed, escaped, fetching nothing, and saying what it lacks"
import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_metrics import LABELS
from test_runs import make_run

from fastmer import crossval, ladder, tune
from fastmer.cli import main
from fastmer.errors import FastmerError
from fastmer.html import LEAST, MOST, clip, picture, subgroups, worst, write_report
from fastmer.manifest import write_json
from fastmer.metrics import as_predictions
from fastmer.runs import Run, read_json
from fastmer.splits import split

EMPTY = ('meta', 'link', 'img', 'br')  # of the elements that this page uses, those without an end
OK = dict(check='speaker', severity='ok', says='none of 4 speakers on both sides', n=0, of=8, examples=[])
LEAK = dict(check='script', severity='leak', says='2 of 2 scripts on both sides', n=8, of=8, examples=['x'])
EVIL = '<script>alert(1)</script>&"\'</svg>'
PARTS = ('scores', 'classes', 'training', 'calibration', 'groups', 'errors', 'audit')


class Page(HTMLParser):
    "A page's elements, ids, links and text; fails where a tag is not closed in its turn"
    def __init__(self, path):
        super().__init__()
        self.stack, self.tags, self.attrs, self.text = [], [], [], ''
        self.source = path.read_text(encoding='utf-8')
        self.feed(self.source)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [(tag, name, value or '') for name, value in attrs]
        if tag not in EMPTY: self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [(tag, name, value or '') for name, value in attrs]

    def handle_endtag(self, tag): assert self.stack.pop() == tag
    def handle_data(self, data): self.text += data if self.stack[-1:] != ['style'] else ''
    def all(self, name): return [value for _, attr, value in self.attrs if attr == name]


def answers(rows, seed, labels=LABELS):
    "Made-up predictions, half of them right and the others by chance"
    rng = np.random.default_rng(seed)
    true, right = rows.label.to_numpy()[:, None] == labels, rng.random((len(rows), 1)) < 0.5
    probs = rng.dirichlet(np.ones(len(labels)), len(rows)) + 1.5*true*right
    return as_predictions(rows.id, rows.label, probs/probs.sum(axis=1, keepdims=True), labels)


def train(path, prepared, fold=1, system='audio', leaks=(), audit=(OK,), manifest=None, **sidecar):
    "What a training on `prepared` would leave behind"
    df = prepared.manifest if manifest is None else manifest
    s, labels = split(df, 'speaker', fold), sorted(df.label.unique())
    found = dict(passes=True, warnings=[], findings=list(audit), leaks=[f['check'] for f in audit if f['severity'] == 'leak'])
    run = make_run(path, system=system, vocab=labels, split=s.about(), corpus=', '.join(df.corpus.unique()), prepared=str(prepared.path),
                   leaks=list(leaks), audit=found, recipe=dict(epochs=4, lr=1e-3, clip=None), command='fastmer train-audio x --lr 1e-3',
                   versions=dict(torch='2'), **sidecar)
    for seed, (part, ids) in enumerate(dict(test=s.test, valid=s.valid).items()):
        run.write_predictions(answers(df[df.id.isin(list(ids))], fold*10 + seed + 100*len(system), labels), part)
    run.write_utterances(df, s, s.train)
    return Run.open(path)


def validate(out, prepared, systems=('audio', 'text', 'fusion'), **kwargs):
    "A cross-validation of two folds"
    for system in systems:
        runs = [train(out/system/f'seed0-fold{fold}', prepared, fold, system, **kwargs) for fold in (1, 2)]
        crossval.pool(runs, [dict(seed=0, fold=1), dict(seed=0, fold=2)], out/system, 4, system == 'fusion')
    write_json(out/crossval.ABOUT, dict(system='fusion', complete=True))
    return out


@pytest.fixture(scope='module')
def cv(prepared, tmp_path_factory): return validate(tmp_path_factory.mktemp('cv'), prepared)


@pytest.fixture
def run(prepared, tmp_path): return train(tmp_path/'run', prepared)


def check(page, most=3e6):
    "What holds for every page; returns it parsed"
    found, ids = Page(page), Page(page).all('id')
    assert len(set(ids)) == len(ids)
    assert {value[1:] for value in found.all('href') if value.startswith('#')} <= set(ids)
    for name in ('src', 'href', 'srcset', 'data', 'poster', 'action', 'xlink:href'):
        assert all(value.startswith(('#', 'data:')) for value in found.all(name))
    urls = re.findall(r'url\(([^)]*)', found.source)
    assert all(url.startswith('#') and url[1:] in ids for url in urls)
    assert not re.search(r'https?://|@import', found.source)
    assert not set(found.tags) & {'script', 'iframe', 'object', 'form', 'base'}
    assert ('html', 'lang', 'en') in found.attrs
    assert found.tags.count('h1') == 1
    assert len(found.all('alt')) == found.tags.count('img')
    assert len([1 for tag, name, _ in found.attrs if (tag, name) == ('svg', 'aria-label')]) == found.tags.count('svg')
    assert page.stat().st_size < most
    return found


def test_one_run(run, tmp_path):
    page = check(write_report([run.path], tmp_path/'a/page.html'), 1e6)
    for part in PARTS: assert f'r1-{part}' in page.all('id')
    s, about = run.evaluate(), run.sidecar
    for said in (about['split']['sha256'], 'fastmer train-audio x --lr 1e-3', '4: angry, happy, neutral, sad', '4, chosen by ua on valid',
                 'epochs 4 · lr 0.001', 'audit passes', f'{s["ua"]:.3f}', '95% intervals by bootstrap over', OK['says'], str(run.path)):
        assert said in page.text
    assert 'clip' not in page.text
    assert page.tags.count('svg') == 3  # one speaker: nobody to tell apart
    wrong = int((run.predictions.label != run.predictions.predicted).sum())
    assert wrong
    assert page.tags.count('audio') == page.tags.count('img') == min(wrong, 12)


def test_pooled_run(cv, tmp_path):
    page = check(write_report([cv/'fusion'], tmp_path/'page.html'))
    for part in (*PARTS, 'gain'): assert f'r1-{part}' in page.all('id')
    for said in ('1, 2 of 4, pooled', '2 folds', '±', 'seed0-fold2', 'gain over late', '2 speakers in numbers'): assert said in page.text
    assert page.tags.count('svg') == 5


def test_several_runs_side_by_side(cv, run, tmp_path):
    page = check(write_report([cv, run.path], tmp_path/'page.html', title='All of them'))
    assert 'All of them' in page.text
    assert page.text.index('Side by side') < page.text.index('ECE')
    heads = re.findall(r'<h2 id="r\d-title">(\w+)', page.source)
    assert heads == ['audio', 'text', 'fusion', 'audio']
    assert 'stand on different splits' in page.text


def test_a_run_that_is_given_twice_is_told_once(run, cv, tmp_path):
    assert 'runs' not in check(write_report([run.path, run.path/'learner.json'], tmp_path/'page.html')).all('id')
    assert 'stand on different splits' not in check(write_report([cv/'audio', cv/'text', cv], tmp_path/'page.html', errors=0)).text


def test_ladder(cv, prepared, tmp_path):
    validate(tmp_path/'ladder/random', prepared, ['audio'], leaks=['the epoch was chosen on the test part'])
    validate(tmp_path/'ladder/speaker', prepared, ['audio'])
    rungs = {name: Run.open(tmp_path/f'ladder/{name}/audio') for name in ('random', 'speaker')}
    more = dict(random=dict(audio=dict(difference=0.2, interval=None, p=None)), speaker={})
    write_json(tmp_path/'ladder'/ladder.ABOUT, dict(
        honest='speaker', systems=['audio'], left_out=dict(session='the corpus has no sessions'), corpus='tones',
        rungs=[dict(rung=name, scores=dict(audio=one.evaluate()), inflation=more[name]) for name, one in rungs.items()]))
    page = check(write_report([tmp_path/'ladder'], tmp_path/'page.html'))
    for said in ('Leakage ladder on tones', '✗ leaks', '+0.200', 'session left out: the corpus has no sessions', 'Rung random in numbers'):
        assert said in page.text
    assert re.findall(r'<h2 id="(\w+)-title"', page.source) == ['l1', 'r1']
    assert str(rungs['speaker'].path) in page.text
    assert str(rungs['random'].path) not in page.text


TYPED = ({}, dict(lr='0.003', bs='8'), dict(lr='0.01', bs='5000'), dict(lr='0.003', bs='8'))


def search(path, settings=TYPED, error='too large', ended=True, ua=(0.5, 0.75, None, 0.75), objective='ua', **about):
    "What a search would leave behind: trials of UA `ua`, `None` where they failed for `error`"
    of = dict(protocol='speaker', fold=1, n_folds=4, seed=0, sha256='5'*64, counts=dict(train=4, valid=7, test=5))
    write_json(path/tune.ABOUT, dict(system='audio', objective=objective, corpus='tones', labels=['angry', 'sad'], of=of) | about)
    for n, (score, typed) in enumerate(zip(ua, settings, strict=True)):
        write_json(path/f'trials/{n:03}/trial.json', dict(
            trial=n, value=score, ua=score, loss=score and 1 - score, epoch=score and 3, error='' if score else error, settings=typed,
            same_as=settings.index(typed) if settings.index(typed) < n else None, seconds=12.3))
    if ended: write_json(path/'best.json', dict(trials=len(ua), command='fastmer train-audio x --lr 0.003'))
    return path


def rows_of(page, caption):
    "The cells of a table's rows"
    table = re.search(rf'<caption>{caption}.*?</table>', page.source, re.S)[0]
    cells = [re.findall(r'<t[dh][^>]*>(.*?)</t[dh]>', row, re.S) for row in re.findall(r'<tr>.*?</tr>', table, re.S)]
    return [[re.sub(r'<[^>]*>', '', cell) for cell in row] for row in cells]


def test_search(prepared, tmp_path):
    page = check(write_report([search(tmp_path/'tune')], tmp_path/'page.html'), 1e6)
    assert rows_of(page, '4 trials, the best first') == [
        ['trial', 'state', 'lr', 'bs', 'valid UA', 'valid loss', 'epoch', 'seconds'],
        ['1', 'best', '0.003', '8', '0.750', '0.250', '3', '12'], ['3', 'as trial 1', '0.003', '8', '0.750', '0.250', '3', '12'],
        ['0', 'the recipe&#39;s own settings', 'default', 'default', '0.500', '0.500', '3', '12'],
        ['2', 'failed', '0.01', '5000', '', '', '', '12']]
    for said in ('Search of audio settings on tones', 'speaker fold 1 seed 0 · split 555555555555 · 2 labels (angry, sad) · n 7 of valid',
                 'chosen by UA on valid', 'No trial has seen the test part', tune.NOTE, 'Trial 2 failed: too large', 'best so far',
                 'fastmer train-audio x --lr 0.003'): assert said in page.text
    assert page.source.count('<strong class="ok">best</strong>') == page.tags.count('svg') == 1
    assert not [said for said in ('stands below', 'is not finished', 'holds words of the corpus') if said in page.text]
    for command, said in (('fastmer train-audio x --lr 1e-3', 'another command, into the same folder, stands below'),
                          ('fastmer train-audio x --lr 0.003', 'What was trained with it stands below')):
        run = train(tmp_path/'tune/best', prepared, overwrite=True)
        run.write_json('learner.json', run.sidecar | dict(command=command))
        page = check(write_report([tmp_path/'tune'], tmp_path/'page.html', errors=0))
        assert said in page.text
        assert re.findall(r'<h2 id="(\w+)-title"', page.source) == ['s1', 'r1']


def test_searches_that_found_nothing_or_are_not_finished(tmp_path):
    page = check(write_report([search(tmp_path/'a', ua=(None,)*4, objective='loss')], tmp_path/'page.html'))
    own = 'the recipe&#39;s own settings, failed'
    assert [row[1] for row in rows_of(page, '4 trials')] == ['state', own, 'failed', 'failed', 'as trial 1, failed']
    assert 'chosen by loss on valid' in page.text
    page = check(write_report([search(tmp_path/'b', ended=False)], tmp_path/'page.html'))
    assert 'is not finished: run the same fastmer tune again' in page.text
    with pytest.raises(FastmerError, match='a search without a finished trial: run the same fastmer tune again'):
        write_report([search(tmp_path/'c', (), ua=())], tmp_path/'page.html')
    write_json(tmp_path/'d'/tune.ABOUT, dict(system='audio'))
    with pytest.raises(FastmerError, match='was not written by fastmer tune: it has no corpus'):
        write_report([tmp_path/'d'], tmp_path/'page.html')


def test_hostile_settings_are_escaped(tmp_path):
    settings = ({}, {f'lr{EVIL}': EVIL})
    page = check(write_report([search(tmp_path/'a', settings, EVIL, ua=(0.5, None), corpus=EVIL, labels=[EVIL], system=EVIL),
                               search(tmp_path/'b', settings, ua=(0.5, 0.6))], tmp_path/'page.html'))
    assert '<script' not in page.source
    assert page.text.count(f'lr{EVIL}') == 2
    assert f'Trial 1 failed: {EVIL}' in page.text
    assert page.tags.count('svg') == 2


def test_leaks_and_a_failed_audit_are_said(prepared, tmp_path):
    page = check(write_report([train(tmp_path/'run', prepared, leaks=['it saw <3> test ids']).path], tmp_path/'page.html'))
    assert '✗ leaks' in page.text
    assert 'LEAKS: it saw <3> test ids' in page.text
    page = check(write_report([train(tmp_path/'c', prepared, uses=['the <dialogue>']).path], tmp_path/'page.html'))
    assert 'USES the <dialogue>' in page.text
    page = check(write_report([train(tmp_path/'b', prepared, audit=(LEAK, OK)).path], tmp_path/'page.html'))
    assert '✗ audit fails: script on both sides' in page.text
    assert LEAK['says'] in page.text
    assert 'audit passes' not in page.text


def test_pseudo_paired_corpus_is_said(prepared, tmp_path):
    df = prepared.manifest.assign(corpus='pseudo-paired emodb')
    page = check(write_report([train(tmp_path/'run', prepared, manifest=df).path], tmp_path/'page.html'))
    assert 'words and voice are independent given the label; no claim about emotion' in page.text


def test_hostile_names_and_words_are_escaped(prepared, tmp_path):
    df = prepared.manifest.assign(text=EVIL, corpus=EVIL)
    for name in ('id', 'speaker', 'label', 'session', 'gender'): df[name] = df[name] + EVIL
    runs = [train(tmp_path/f'{fold}', prepared, fold, manifest=df, leaks=[EVIL], audit=(dict(OK, says=EVIL),)) for fold in (1, 2)]
    crossval.pool(runs, [dict(seed=0, fold=1), dict(seed=0, fold=2)], tmp_path/'pool', 4)
    page = check(write_report([tmp_path/'pool', tmp_path/'1'], tmp_path/'page.html', title=EVIL))
    assert '<script' not in page.source
    wrong = worst(runs[0], 1).iloc[0]
    for name in (f'angry{EVIL}', f'“{EVIL}”', wrong.id, wrong.speaker): assert name in page.text
    assert page.text.count('✗ leaks') == 4


def test_prepared_folder_that_is_gone(prepared, tmp_path):
    page = check(write_report([train(tmp_path/'a', prepared, fold=2).path], tmp_path/'page.html'))
    assert 'img' in page.tags
    gone = make_run(tmp_path/'b', prepared=str(tmp_path/'gone'))
    page = check(write_report([gone.path], tmp_path/'page.html'))
    assert f'No spectrograms and no recordings: {tmp_path/"gone"} is not there' in page.text
    assert not {'img', 'audio'} & set(page.tags)
    page = check(write_report([make_run(tmp_path/'c').path], tmp_path/'page.html'))  # a run that kept no manifest either
    assert 'the run names no prepared folder' in page.text
    assert '? not audited' in page.text
    assert 'r1-groups' not in page.all('id')


def test_recordings_that_are_gone(prepared, corpus, tmp_path):
    from fastmer.prepare import prepare_corpus
    shutil.copytree(corpus, tmp_path/'corpus')
    made = prepare_corpus('table', tmp_path/'corpus/utterances.csv', tmp_path/'prepared', jobs=1)
    run = train(tmp_path/'run', made)
    shutil.rmtree(tmp_path/'corpus/wav')
    page = check(write_report([run.path], tmp_path/'page.html'))
    assert page.text.count('Some recordings are not where they were prepared from any more.') == 1
    assert 'img' in page.tags
    assert 'audio' not in page.tags
    shutil.rmtree(made.path/'spectrograms')
    assert 'Some spectrograms are not in the prepared folder any more.' in check(write_report([run.path], tmp_path/'page.html')).text


def test_no_audio_and_no_errors(run, tmp_path):
    page = check(write_report([run.path], tmp_path/'page.html', audio=False))
    assert 'img' in page.tags
    assert 'audio' not in page.tags
    page = check(write_report([run.path], tmp_path/'page.html', errors=0))
    assert not {'img', 'audio'} & set(page.tags)
    assert 'r1-errors' not in page.all('id')
    assert not any(words in page.text for words in run.utterances.text)


def test_fusion_without_its_halves(cv, tmp_path):
    shutil.copytree(cv/'fusion', tmp_path/'cv/fusion')
    page = check(write_report([tmp_path/'cv/fusion'], tmp_path/'a.html'))
    assert 'The gain over its halves cannot be told: the audio run of' in page.text


def test_history_that_is_gone(run, tmp_path):
    (run.path/'history.csv').unlink()
    assert 'Curves of 0 of 1 trainings' in check(write_report([run.path], tmp_path/'a.html')).text


def test_subgroups_are_scored_on_their_own_rows(cv):
    run = Run.open(cv/'audio')
    found, df = subgroups(run), run.predictions.join(run.utterances[['speaker', 'session', 'gender', 'language', 'corpus']], on='id')
    assert set(found) == {'duration'} | {name for name in ('speaker', 'session', 'gender', 'language', 'corpus') if df[name].nunique() > 1}
    assert [name for name, *_ in found['speaker']] == sorted(df.speaker.unique())
    for name, s, i in found['speaker']:
        rows = df[df.speaker == name]
        assert (s['n'], s['wa']) == (len(rows), pytest.approx((rows.label == rows.predicted).mean()))
        assert (i['over'], i['groups']) == ('utterance', len(rows))
    for groups in found.values(): assert sum(s['n'] for _, s, _ in groups) == len(df)


def test_small_and_many_subgroups(run):
    df = run.utterances.loc[run.predictions.id].reset_index()
    big = Run(run.path)
    many = np.resize([f's{n:03}' for n in range(MOST + 5)], 400)
    ids = [f'u{n}' for n in range(400)]
    gender = ['m']*(LEAST - 1) + ['f']*(401 - LEAST)
    table = df.iloc[np.resize(np.arange(len(df)), 400)].assign(id=ids, speaker=many, gender=gender, duration=np.nan)
    table.to_csv(run.path/'utterances.csv', index=False)
    big.write_predictions(answers(table, 0))
    found = subgroups(Run.open(run.path))
    assert len(found['speaker']) == MOST + 1
    assert found['speaker'][0][0] == '5 others'
    assert [(name, s['n'], bool(i)) for name, s, i in found['gender']] == [('f', 401 - LEAST, True), ('m', LEAST - 1, False)]
    assert 'duration' not in found


def test_worst_are_the_most_confident_wrong_answers(cv):
    run = Run.open(cv/'audio')
    df, probs = run.predictions, run.calibrated(run.predictions).max(axis=1)
    wrong = (df.label != df.predicted).to_numpy()
    found = worst(run, 3)
    assert list(found.confidence) == pytest.approx(sorted(probs[wrong])[::-1][:3])
    assert (found.label != found.predicted).all()
    assert list(found.speaker) == list(run.utterances.speaker[found.id])


def test_picture_and_clip(tmp_path):
    import soundfile as sf
    Image.fromarray(np.arange(200, dtype='uint8')[None].repeat(8, 0)).save(tmp_path/'a.png')
    uri, width = picture(tmp_path/'a.png', 50)
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2]))) as image: assert (image.size, width) == ((50, 8), 50)
    assert picture(tmp_path/'a.png', 500)[1] == 200
    sf.write(tmp_path/'a.wav', np.sin(np.arange(8000*20)/20), 8000)
    wave, rate = sf.read(io.BytesIO(base64.b64decode(clip('a.wav', tmp_path).partition(',')[2])))
    assert rate == 16000
    assert len(wave)/rate == pytest.approx(15, abs=0.1)
    assert np.abs(wave).max() > 0.5


def test_command(run, cv, tmp_path):
    options = ['--html', str(tmp_path/'page.html'), '--no-audio', '--title', 'T']
    result = CliRunner().invoke(main, ['report', str(run.path), str(cv/'text'), *options])
    assert result.exit_code == 0, result.output
    assert str(tmp_path/'page.html') in result.output
    assert 'audio' not in check(tmp_path/'page.html').tags


@pytest.mark.parametrize(('what', 'says'), [
    ('gone', 'is not there: give a run folder'), ('', 'is no finished run: it has no learner.json')])
def test_command_where_no_run_is(tmp_path, what, says):
    result = CliRunner().invoke(main, ['report', str(tmp_path/what), '--html', str(tmp_path/'page.html')])
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.count('\n') == 1
    assert not (tmp_path/'page.html').exists()


def test_what_cannot_be_a_page_or_a_report_of(run, tmp_path):
    with pytest.raises(FastmerError, match=r'ends in \.html'): write_report([run.path], run.path/'predictions.csv')
    (tmp_path/'d.html').mkdir()
    with pytest.raises(FastmerError, match=r'ends in \.html'): write_report([run.path], tmp_path/'d.html')
    write_json(tmp_path/'cv'/crossval.ABOUT, {})
    with pytest.raises(FastmerError, match='is a cross-validation that is not finished'): write_report([tmp_path/'cv'], tmp_path/'a.html')
    write_json(tmp_path/'l'/ladder.ABOUT, dict(honest='x'))
    with pytest.raises(FastmerError, match='was not written by fastmer ladder: it has no corpus'):
        write_report([tmp_path/'l'], tmp_path/'a.html')


def browse(page):
    "What a browser says on its console about `page`, and the addresses that the page, not the browser itself, asked for"
    binary = next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), None)
    if not binary: pytest.skip('no chromium to open the page with')
    log = page.with_suffix('.netlog.json')
    off = ('--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run', '--no-sandbox')
    how = ('--headless=new', f'--user-data-dir={page.parent/"profile"}', '--enable-logging=stderr', f'--log-net-log={log}',
           '--host-resolver-rules=MAP * ~NOTFOUND', '--window-size=390,900', '--virtual-time-budget=2000', '--dump-dom')
    seen = subprocess.run([binary, *off, *how, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert '</html>' in seen.stdout
    sent = [event['params'] for event in read_json(log)['events'] if {'initiator', 'url'} <= set(event.get('params', ()))]
    asked = {params['url'] for params in sent if params['initiator'] != 'not an origin' and not params['url'].startswith('data:')}
    return [line for line in seen.stderr.splitlines() if 'CONSOLE' in line], asked


@pytest.mark.slow
def test_a_browser_finds_nothing_to_say_or_to_fetch(demo_prepared, tmp_path):
    (tmp_path/'loud.html').write_text('<img src="http://a.invalid/b.png"><script>console.log("hello")</script>', encoding='utf-8')
    said, asked = browse(tmp_path/'loud.html')
    assert any('hello' in line for line in said)
    assert asked == {'http://a.invalid/b.png'}
    settings = dict(audio=dict(arch='alexnet-report', epochs=1, seconds=3.2, crops=1), text=dict(arch='tiny', epochs=1),
                    fusion=dict(head_epochs=1))
    crossval.cross_validate(demo_prepared, 'fusion', tmp_path/'cv', 'session', only=[1, 2], settings=settings, say=None)
    page = write_report([tmp_path/'cv'], tmp_path/'page.html')
    assert {'svg', 'img', 'audio', 'table', 'details'} <= set(check(page, 5e6).tags)
    assert browse(page) == ([], set())
