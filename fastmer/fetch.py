"Files from the net, continued where they were broken off, and checked before they get their name"
import email.utils
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from .errors import FastmerError
from .manifest import atomic

CHUNK = 1 << 18
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers of a server that may be different a moment later
LIMITS = dict(tries=5, wait=1.0, timeout=60.0)


class Dropped(Exception):
    "The connection was lost, or the server asks to come back later in `after` seconds: another try may help"
    def __init__(self, why, after=0):
        super().__init__(str(why))
        self.after = after


class Anew(Exception):
    "What is there of the file cannot be continued"


def fetch(url, path, sha256=None, md5=None, size=None, say=print, **limits):
    """Fetch `url` into the file `path`, which appears only when it is whole and its checksum is right; returns the path.

    What there is so far stands in `path.part`, and what it is a part of in `path.part.json`; a later call goes on there if the server
    still has the same file. `limits`: `tries` since the last that brought something, `wait` in seconds, doubled after each,
    and `timeout` of a read.
    Raises `FastmerError`. Not for two processes that fetch the same `path` at once.
    """
    limits, path = LIMITS | limits, Path(path)
    if urlsplit(url).scheme not in ('http', 'https'): raise FastmerError(f'{url} is no address that starts with http:// or https://')
    part = path.with_name(f'{path.name}.part')
    if path.exists():
        if fault := wrong(path, sha256, md5, size): raise FastmerError(f'{path} is there already but {fault}: delete it to fetch it again')
        say(f'{path} is there already')
        return path
    known = bool(sha256 or md5)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            continued = load(url, part, size, known, say, **limits)
            if not (fault := wrong(part, sha256, md5, size)): break
            drop(part)
            if not continued:
                raise FastmerError(f'{url} was fetched, but {fault}: it was changed or spoilt on the way, and nothing is kept')
            say(f'{part} was continued, but {fault}: fetching it anew')
        os.replace(part, path)
    except OSError as e: raise FastmerError(f'{path} cannot be written ({e})') from e
    drop(part)
    say(f'{path}: {path.stat().st_size:,} bytes, ' + ('checksum right' if known else 'no checksum is published to compare with'))
    return path


def wrong(path, sha256=None, md5=None, size=None):
    "What is wrong with a file against its published size and checksums, `''` where nothing is"
    have = path.stat().st_size
    if size is not None and have != size: return f'it has {have:,} bytes and not {size:,}'
    for kind, hoped in dict(sha256=sha256, md5=md5).items():
        if not hoped: continue
        with open(path, 'rb') as f: got = hashlib.file_digest(f, kind).hexdigest() if hasattr(hashlib, 'file_digest') else digest(f, kind)
        if got != hoped.lower(): return f'its {kind} is {got} and not {hoped.lower()}'
    return ''


def digest(f, kind):
    "As `hashlib.file_digest`, which Python 3.10 lacks"
    sum_ = hashlib.new(kind, usedforsecurity=False)
    while data := f.read(CHUNK): sum_.update(data)
    return sum_.hexdigest()


def tag_of(part): return part.with_name(f'{part.name}.json')


def drop(part):
    for path in (part, tag_of(part)): path.unlink(missing_ok=True)


def load(url, part, size, known, say, tries, wait, timeout):
    """Bring `part` to its full length, over as many connections as that takes; returns whether the last one continued it.

    `known`: a checksum will tell whether it is right.
    """
    most, failed = 0, 0
    while True:
        try: return transfer(url, part, size, known, say, timeout)
        except Anew as e:
            drop(part)
            why, after = e, 0
        except Dropped as e: why, after = e, e.after
        have = resumable(part, url, known)[0]
        failed = 1 if have > most else failed + 1
        most = max(most, have)
        if failed >= tries:
            raise FastmerError(f'{url} cannot be fetched, the last time because {why}: run it again later, it goes on after {have:,} bytes')
        seconds = max(after, wait*2**(failed - 1))
        say(f'{part}: {why}; try {failed + 1} in {seconds:.3g} s, after {have:,} bytes')
        time.sleep(seconds)


def transfer(url, part, size, known, say, timeout):
    "One connection: continue `part` or begin it; returns whether it continued; raises `Dropped` or `Anew` where it is not whole then"
    have, tag = resumable(part, url, known)
    if have and have == tag.get('size'): return True
    headers = {'User-Agent': 'fastmer', 'Accept-Encoding': 'identity'}
    if have: headers |= {'Range': f'bytes={have}-'} | ({'If-Range': tag['is']} if tag.get('is') else {})
    with connect(url, headers, timeout) as answer:
        whole, start = spans(answer, have)
        if size is not None and whole is not None and whole != size:
            drop(part)
            raise FastmerError(f'{url} has {whole:,} bytes and not {size:,} as published: it was replaced')
        if have and not start: say(f'{part}: the server does not continue it, or has another file now: fetching it anew')
        new = dict(url=url, size=whole, **{'is': validator(answer.headers)})
        if start and any(tag.get(key) and new[key] and new[key] != tag[key] for key in ('size', 'is')): raise Anew('the file has changed')
        if whole is not None and whole - start > (free := shutil.disk_usage(part.parent).free):
            raise FastmerError(f'{url} takes {whole - start:,} bytes more, and {part.parent} has room for {free:,}: make room first')
        if new != tag:
            if not start: drop(part)
            with atomic(tag_of(part)) as tmp: tmp.write_text(json.dumps(new), encoding='utf-8')
        done = start
        with open(part, 'ab' if start else 'wb') as f:
            while data := receive(answer):
                if size is not None and done + len(data) > size: raise Anew(f'it has more than the {size:,} bytes that are published')
                done += f.write(data)
    if whole is not None and done != whole: raise Dropped('the connection was lost')
    return start > 0


def resumable(part, url, known):
    "`(bytes of part to go on after, tag)`: none where nothing could tell whether the rest fits what is there"
    tag = read_tag(part, url)
    return (part.stat().st_size if part.exists() and (known or tag.get('is')) else 0), tag


def read_tag(part, url):
    "What `part` is a part of, as the last connection wrote it down; `{}` where that is not known, or is another address"
    try: tag = json.loads(tag_of(part).read_text(encoding='utf-8'))
    except (OSError, ValueError): return {}
    return tag if isinstance(tag, dict) and tag.get('url') == url else {}


def validator(headers):
    "What `If-Range` may carry: a strong ETag, else the time of the last change, else `''`"
    tag = headers.get('ETag', '')
    return tag if tag.startswith('"') else headers.get('Last-Modified', '')


def connect(url, headers, timeout):
    try: answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as e:
        e.close()
        if e.code == 416: raise Anew('the server has no more than what is there') from None
        if e.code in PASSING: raise Dropped(f'the server answers {e.code} {e.reason}', seconds(e.headers.get('Retry-After'))) from None
        raise FastmerError(f'{url} cannot be fetched: the server answers {e.code} {e.reason}') from None
    except (OSError, http.client.HTTPException) as e: raise Dropped(getattr(e, 'reason', None) or e or type(e).__name__) from None
    if urlsplit(url).scheme != urlsplit(answer.url).scheme == 'http':
        answer.close()
        raise FastmerError(f'{url} leads to {answer.url}, which is not encrypted: it is not followed')
    if answer.headers.get('Content-Encoding', 'identity') != 'identity':
        answer.close()
        raise FastmerError(f'{url} is sent as {answer.headers["Content-Encoding"]}, which was not asked for: fetch it with a browser')
    return answer


def seconds(text):
    "`Retry-After` in seconds, a minute at most"
    if not text: return 0
    if text.strip().isdecimal(): return min(60, int(text))
    try: return min(60, max(0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()))
    except ValueError: return 0


def spans(answer, have):
    "`(size of the whole file or None, first byte that comes)`"
    if answer.status == 206:
        m = re.fullmatch(r'bytes (\d+)-(\d+)/(\d+|\*)', answer.headers.get('Content-Range', '').strip())
        if not m or int(m[1]) != have or not have: raise Anew('the server sends another part than the one asked for')
        whole = int(m[2]) + 1 if m[3] == '*' else int(m[3])
        if int(m[2]) + 1 != whole: raise Anew('the server sends another part than the one asked for')
        return whole, have
    length = answer.headers.get('Content-Length', '').strip()
    return (int(length) if length.isdecimal() else None), 0


def receive(answer):
    try: return answer.read(CHUNK)
    except (OSError, http.client.HTTPException) as e: raise Dropped(f'the connection was lost ({type(e).__name__})') from None
