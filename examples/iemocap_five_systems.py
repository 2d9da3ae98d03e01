"""The report's five systems on IEMOCAP, scored on unseen sessions and scripts

python examples/iemocap_five_systems.py --root IEMOCAP_full_release
"""
import click

from fastmer.all import *


@click.command()
@click.option('--root', required=True, help='The folder IEMOCAP_full_release.')
@click.option('--out', default='out/iemocap')
@click.option('--bert', default='bert-base-uncased', help='A Hugging Face encoder, by name or local folder.')
@click.option('--weights', default='imagenet', help='imagenet, none, or a file.')
@click.option('--protocol', default='session+script')
@click.option('--fold', default=1)
@click.option('--epochs', type=int, help='Of every system; for a quick look.')
def main(root, out, bert, weights, protocol, fold, epochs):
    out, on = Path(out), dict(protocol=protocol, fold=fold)
    prepared = prepare_corpus('iemocap', root, out/'prepared', labels='4')
    alexnet = train_audio(prepared, out/'alexnet', 'alexnet', weights, epochs=epochs, **on)
    resnet = train_audio(prepared, out/'resnet34', 'resnet34', weights, epochs=epochs, **on)
    text = train_text(prepared, out/'bert', bert, epochs=epochs, **on)
    fused = [train_fusion(prepared, audio.path, text.path, out/f'{audio.path.name}-bert', head_epochs=epochs)
             for audio in (alexnet, resnet)]
    for run in (alexnet, resnet, text, *fused):
        scores = run.evaluate()
        print(f'{run.path.name:14}  WA {scores["wa"]:.3f}  UA {scores["ua"]:.3f}  ({protocol}, fold {fold}, {scores["n"]} utterances)')


if __name__ == '__main__': main()
