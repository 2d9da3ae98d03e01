#!/usr/bin/env bash
# UA on unseen EMO-DB speakers, folds 1 and 2, of three architectures: benchmarks/emodb.sh EMODB EFFICIENTNET_LITE0.pth [OUT]
# Hours on two cores. EFFICIENTNET_LITE0.pth: ImageNet weights for timm's tf_efficientnet_lite0.
set -euo pipefail
root=$1 weights=$2 out=${3:-out/emodb}
fastmer prepare emodb "$root" "$out/prepared"
for fold in 1 2; do
  for arch in resnet34 alexnet; do
    fastmer train-audio "$out/prepared" --arch $arch --protocol speaker --fold $fold --out "$out/$arch-$fold" --overwrite
  done
  fastmer train-audio "$out/prepared" --arch tf_efficientnet_lite0 --weights "$weights" --protocol speaker --fold $fold \
    --out "$out/efficientnet-$fold" --overwrite
done
fastmer evaluate "$out"/*-[12]
