"""Corpora from the net: what they are, under which licence, and how to get them

None of the addresses was tried when this was written, for there was no net: where one has moved, the page of the corpus says where to.
Licences were read in stored copies of a corpus's README or paper (CREMA-D, ESD, ShEMO), else in what others write of it; where they do
not agree or are vague, `licence` sends to the home page. Checksums and sizes are as others tell them who fetched the same file.
"""
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .errors import FastmerError, did_you_mean
from .fetch import fetch
from .unpack import unpack


@dataclass(frozen=True)
class File:
    "A file of a corpus: the name is ours, never the server's; where `md5` or `sha256` is empty, none is published"
    url: str
    name: str
    md5: str = ''
    sha256: str = ''
    size: int | None = None
    inner: tuple = ()  # archives in the archive


@dataclass(frozen=True)
class Source:
    "Where a corpus comes from; no `files` where a form, a login or a browser stands before them: `how` says what to do then"
    licence: str
    cite: str
    page: str
    files: tuple = ()
    how: str = ''


SOURCES = {
    'emodb': Source(
        'CC BY 4.0 (the Zenodo record; audEERING publishes the same recordings as CC0 1.0)', 'Burkhardt, Paeschke, Rolfes, Sendlmeier and '
        'Weiss: A database of German emotional speech, Interspeech 2005, https://doi.org/10.21437/Interspeech.2005-446',
        'https://zenodo.org/records/7447302',
        (File('https://zenodo.org/records/7447302/files/emodb.zip?download=1', 'emodb.zip', md5='9d21362dbc5676ef3ab4745d83ced0db',
              size=39_981_818),)),
    'ravdess': Source(
        'CC BY-NC-SA 4.0', 'Livingstone and Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), PLOS ONE '
        '13(5): e0196391, 2018, https://doi.org/10.1371/journal.pone.0196391', 'https://zenodo.org/records/1188976',
        (File('https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1', 'Audio_Speech_Actors_01-24.zip',
              md5='bc696df654c87fed845eb13823edef8a', size=208_468_073),)),
    'crema-d': Source(
        'Open Database License 1.0, its contents under the Database Contents License 1.0', 'Cao, Cooper, Keutmann, Gur, Nenkova and '
        'Verma: CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Transactions on Affective Computing 5(4), 2014, '
        'https://doi.org/10.1109/TAFFC.2014.2336244', 'https://github.com/CheyneyComputerScience/CREMA-D',
        (File('https://gitlab.com/cs-cooper-lab/crema-d-mirror/-/archive/main/crema-d-mirror-main.zip?path=AudioWAV', 'crema-d.zip'),)),
    'meld': Source(
        'GPL-3.0 (the repository); the clips are from the TV series Friends: see the home page', 'Poria, Hazarika, '
        'Majumder, Naik, Cambria and Mihalcea: MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL 2019, '
        'https://doi.org/10.18653/v1/P19-1050', 'https://github.com/declare-lab/MELD',
        (File('https://huggingface.co/datasets/declare-lab/MELD/resolve/main/MELD.Raw.tar.gz', 'MELD.Raw.tar.gz',
              sha256='a56b4407d574195cbce470d86f9c9d72fcfea59b0e34502ecd4babee4a5c613e', size=10_878_146_150,
              inner=('train.tar.gz', 'dev.tar.gz', 'test.tar.gz')),)),
    'tess': Source(
        'Creative Commons, not commercial (BY-NC-ND 4.0 by some accounts, BY-NC 4.0 by others): see the home page', 'Pichora-Fuller and '
        'Dupuis: Toronto emotional speech set (TESS), Borealis, 2020, https://doi.org/10.5683/SP2/E8H2MF',
        'https://doi.org/10.5683/SP2/E8H2MF',
        (File('https://borealisdata.ca/api/access/dataset/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF', 'tess.zip'),)),
    'shemo': Source(
        'free of charge for academic purposes (the paper); the repository names no licence', 'Mohamad Nezami, Jamshid Lou and Karami: '
        'ShEMO: a large-scale validated database for Persian speech emotion detection, Language Resources and Evaluation 53(1), 2019, '
        'https://doi.org/10.1007/s10579-018-9427-x', 'https://github.com/mansourehk/ShEMO',
        tuple(File(f'https://github.com/mansourehk/ShEMO/raw/master/{name}.zip', f'{name}.zip')
              for name in ('female', 'male', 'transcript'))),
    'savee': Source(
        'its own, on registration: see the home page', 'Haq and Jackson: Multimodal emotion recognition, in Wang (ed.): Machine '
        'Audition: Principles, Algorithms and Systems, IGI Global, 2010, https://doi.org/10.4018/978-1-61520-919-4.ch017',
        'http://kahlan.eps.surrey.ac.uk/savee/Download.html',
        how='register on the page, fetch AudioData.zip (in Data/Zip of what it then shows) and unpack it'),
    'emovo': Source(
        'see the home page, or ask its authors', 'Costantini, Iaderola, Paoloni and Todisco: EMOVO Corpus: an Italian Emotional Speech '
        'Database, LREC 2014, https://aclanthology.org/L14-1478/', 'http://voice.fub.it/activities/corpora/emovo/index.html',
        how='fetch emovo.zip with a browser, from the page or, where that is gone, from Google Drive, and unpack it'),
    'esd': Source(
        'its own, filled in and mailed to the authors; for research only', 'Zhou, Sisman, Liu and Li: Seen and unseen emotional style '
        'transfer for voice conversion with a new emotional speech dataset, ICASSP 2021, https://doi.org/10.1109/ICASSP39728.2021.9413391',
        'https://github.com/HLTSingapore/Emotional-Speech-Data',
        how='fill in the licence that the page links to and mail it to the address given there, then follow the link to Google Drive with '
            'a browser and unpack what it gives'),
    'jl-corpus': Source(
        'CC0 1.0 (the page on Kaggle)', 'James, Tian and Watson: An open source emotional speech corpus for human robot interaction '
        'applications, Interspeech 2018, https://doi.org/10.21437/Interspeech.2018-1349', 'https://www.kaggle.com/datasets/tli725/jl-corpus',
        how='log in on Kaggle, fetch the archive from the page and unpack it'),
    'iemocap': Source(
        'its own, the data release form of USC: for research within the institution, not commercial', 'Busso, Bulut, Lee, Kazemzadeh, '
        'Mower, Kim, Chang, Lee and Narayanan: IEMOCAP: interactive emotional dyadic motion capture database, Language Resources and '
        'Evaluation 42(4), 2008, https://doi.org/10.1007/s10579-008-9076-6', 'https://sail.usc.edu/iemocap/iemocap_release.htm',
        how='read the licence and fill in the release form on the page; the answer says where to fetch it; unpack it'),
    'msp-podcast': Source(
        'its own, an academic licence: see the home page', 'Lotfian and Busso: Building naturalistic emotionally balanced speech '
        'corpus by retrieving emotional speech from existing podcast recordings, IEEE Transactions on Affective Computing 10(4), 2019, '
        'https://doi.org/10.1109/TAFFC.2017.2736999', 'https://www.lab-msp.com/MSP/MSP-Podcast.html',
        how='ask for the academic licence as the page says, fetch a release and unpack its archives so that Labels and Audios lie side by '
            'side'),
}


def source(name):
    if name not in SOURCES: raise FastmerError(f'nothing is known about getting {name!r}{did_you_mean(name, SOURCES)}; there are '
                                               f'{", ".join(SOURCES)}')
    return SOURCES[name]


def about(name):
    "What to know about a corpus before it is fetched, as lines"
    o = source(name)
    return [f'{name}: {o.page}', f'Licence: {o.licence}', f'Cite: {o.cite}', *([f'To get it: {o.how}'] if o.how else [])]


def get_corpus(name, folder, say=print, **limits):
    """Fetch and unpack the corpus `name` into `folder`, and check what was got; for one behind a form, say how to get it, and check.

    Archives stay in `folder/archives`. A second call fetches and unpacks only what is not there. Raises `FastmerError`.
    """
    folder, o = Path(folder).expanduser(), source(name)
    for line in about(name): say(line)
    for file in o.files:
        archive = fetch(file.url, folder/'archives'/file.name, file.sha256, file.md5, file.size, say, **limits)
        inside = unpack(archive, folder/stem(file.name), say=say)
        for inner in file.inner:
            for path in sorted(inside.rglob(inner)): unpack(path, path.with_name(f'{stem(path.name)}_unpacked'), say=say)
    if not o.files and not (folder.is_dir() and any(folder.iterdir())):
        say(f'{folder} holds nothing yet: put there what you get, then run this again to check it')
        return None
    return check(name, folder, say)


def stem(name): return re.sub(r'(\.tar)?\.[a-z0-9]+$', '', name, flags=re.IGNORECASE)


def check(name, folder, say=print):
    "Read the corpus `name` in `folder` and say what is there, what lacks, and what cannot be used; returns the `Corpus`"
    from .corpora import read_corpus
    corpus, folder = None, Path(folder)
    if not folder.is_dir(): raise FastmerError(f'{folder} is no folder: give the one that holds {name}')
    while corpus is None:
        try: corpus = read_corpus(name, folder)
        except FastmerError:
            within = [path for path in folder.iterdir() if not path.name.startswith(('.', '__')) and path.name != 'archives']
            if len(within) != 1 or not within[0].is_dir(): raise
            folder = within[0]  # an archive with one folder in it
    say(f'{folder}: {len(corpus.manifest):,} utterances of {name} can be used')
    for note in corpus.notes: say(note)
    for reason, n in Counter(row['reason'] for row in corpus.skipped).most_common(5): say(f'{n:,} skipped: {reason}')
    return corpus
