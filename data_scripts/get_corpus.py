"""Fetch, check and unpack a corpus, or say how to get it where it lies behind a form; its licence and what to cite come first

    python data_scripts/get_corpus.py                        # what there is
    python data_scripts/get_corpus.py ravdess data/ravdess   # a second run goes on where the first ended
    python data_scripts/get_corpus.py iemocap data/iemocap   # how to get it; once it is there, whether it is whole
"""
import sys
from pathlib import Path

import click

from fastmer.errors import FastmerError
from fastmer.sources import SOURCES, get_corpus


@click.command(help=__doc__.splitlines()[0])
@click.argument('name', required=False)
@click.argument('folder', required=False, type=click.Path(path_type=Path))
def main(name, folder):
    if name is None:
        for known, o in SOURCES.items(): click.echo(f'{known:12}{"fetched" if o.files else "by hand":10}{o.licence}')
        return
    try: get_corpus(name, folder or Path('data')/name, click.echo)
    except FastmerError as e: sys.exit(f'Error: {e}')
    if name == 'meld': click.echo(f'Now the sound: python data_scripts/meld.py {folder or Path("data")/name}')


if __name__ == '__main__': main()
