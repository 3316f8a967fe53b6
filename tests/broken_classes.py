"""An encoder and a method that keep every promise, and a class for each promise that breaks it alone."""

import torch
from torch import nn

from common.batch import Batch
from ssl_modules.base import SSLModule
from ssl_modules.ema import copy_network
from ssl_modules.networks.vit import ViT


class Encoder(nn.Module):
    dim, pooled = 8, True

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)

    def maps(self, view):
        return self.conv(view)

    def forward(self, view):
        return self.maps(view).mean((2, 3))


class Method(SSLModule):
    def __init__(self, **shared):
        super().__init__(**shared)
        self.head = nn.Linear(8, 3)

    def training_step(self, batch: Batch, batch_idx: int) -> dict:
        features = self.encode(batch.views[0])
        return self.outputs(self.head(features).float().square().mean(), features)


class OtherWidth(Encoder):
    dim = 5


class WithoutFeatures(Method):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        return self.outputs(loss, count=len(batch.index))


class Noisy(Encoder):
    def forward(self, view):
        torch.rand(1)
        return super().forward(view)


class Centered(Encoder):
    maps = property()

    def forward(self, view):
        features = self.conv(view).mean((2, 3))
        return features - features.mean(0)


class FlatMaps(Encoder):
    pooled = False

    def maps(self, view):
        return self.conv(view).flatten(2)

    def forward(self, view):
        return self.maps(view).mean(2)


class MaxPooled(Encoder):
    def forward(self, view):
        return self.maps(view).amax((2, 3))


class HalfPosterior(Encoder):
    def posterior(self, view):
        mean = self(view)
        return mean, mean[:, :4]


class Posterior(Encoder):
    def posterior(self, view):
        return self(view), self(view)


class SmallDecoder(Encoder):
    def decoder(self):
        return nn.Linear(8, 3)


class OtherNames(Encoder):
    def no_weight_decay(self):
        return {"cls_token"}


class NoLayers(Encoder):
    def group_matcher(self, coarse=False):
        return None


class Patches(ViT):
    def __init__(self):
        super().__init__(16, patch_size=4, width=8, depth=1, heads=2, pool="mean")


class OtherFeatures(Patches):
    def encode_tokens(self, *args, **options):
        features, tokens = super().encode_tokens(*args, **options)
        return features + 1, tokens

    def forward(self, view):
        return super().encode_tokens(view)[0]


class LeakyKeep(Patches):
    def embed(self, view, keep=None, **options):
        x = super().embed(view, keep, **options)
        brightness = view.mean((1, 2, 3))[:, None, None]
        return x if keep is None else x + brightness * torch.arange(8)

    def encode_tokens(self, view, keep=None, mask=None, mask_token=None):
        x = self.norm(self.blocks(self.embed(view, keep, mask=mask, mask_token=mask_token)))
        return x[:, 1:].mean(1), x[:, 1:]


class NoMask(Patches):
    def encode_tokens(self, view, keep=None, mask=None, mask_token=None):
        return super().encode_tokens(view, keep)


class LoudAttention(Patches):
    def attention(self, view):
        return 2 * super().attention(view)


class OwnEncode(Method):
    def encode(self, view):
        return self.encoder(view)


class TwoViews(Method):
    def check_views(self, recipes):
        return None if len(recipes) == 2 else "exactly two views"


class Pixels(Method):
    value_range = (0, 1)


class OtherMode(Method):
    monitor = ("val/loss", "lowest")


class ForgottenCopy(Method):
    def __init__(self, **shared):
        super().__init__(**shared)
        self.teacher = copy_network(self.encoder)


class Decoder(Method):
    def decode(self, z, labels=None):
        return z


class Rebuilder(Method):
    def reconstruct(self, view, labels=None):
        return view[:1]


class Hider(Method):
    def hide(self, view):
        return view[:, :1]


class Generator(Method):
    def generate(self, count, generator, gaussian=None, labels=None):
        return torch.full((count, 3, 16, 16), 2.0)


class Infinite(Method):
    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        return outputs | {"loss": outputs["loss"] + torch.inf}


class HalfFeatures(Method):
    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        return outputs | {"features": outputs["features"][:, :4]}


class VectorMetric(Method):
    def training_step(self, batch, batch_idx):
        features = self.encode(batch.views[0])
        losses = self.head(features).float().square().mean(1)
        return self.outputs(losses.mean(), features, {"losses": losses})


class RowsFirst(Method):
    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        return outputs | {"projections": torch.zeros(len(batch.index), 2, 3)}


class Counter(Method):
    steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return super().training_step(batch, batch_idx)


class Unused(Method):
    def __init__(self, **shared):
        super().__init__(**shared)
        self.predictor = nn.Linear(8, 8)


class OtherValidation(Method):
    def validation_step(self, batch, batch_idx):
        return {"features": self.encode(batch.views[0]).float() + 1}


class Float32Alone(Method):
    def training_step(self, batch, batch_idx):
        features = self.encode(batch.views[0])
        sums = torch.zeros(1, 3).index_add(0, 0 * batch.index, self.head(features))
        return self.outputs(sums.square().mean(), features)


BROKEN = [
    ("dim", OtherWidth, WithoutFeatures),
    ("eval mode", Noisy, Method),
    ("one by one", Centered, Method),
    ("maps", FlatMaps, Method),
    ("pooled", MaxPooled, Method),
    ("posterior", HalfPosterior, Method),
    ("decoder", SmallDecoder, Method),
    ("no_weight_decay", OtherNames, Method),
    ("group_matcher", NoLayers, Method),
    ("encode_tokens", OtherFeatures, Method),
    ("keep", LeakyKeep, Method),
    ("mask", NoMask, Method),
    ("attention", LoudAttention, Method),
    ("encode", Encoder, OwnEncode),
    ("check_views", Encoder, TwoViews),
    ("value_range", Encoder, Pixels),
    ("monitor", Encoder, OtherMode),
    ("on_encoder_loaded", Encoder, ForgottenCopy),
    ("decode", Posterior, Decoder),
    ("reconstruct", Encoder, Rebuilder),
    ("hide", Encoder, Hider),
    ("generate", Encoder, Generator),
    ("loss", Encoder, Infinite),
    ("features", Encoder, HalfFeatures),
    ("metrics", Encoder, VectorMetric),
    ("outputs", Encoder, RowsFirst),
    ("pure", Encoder, Counter),
    ("gradients", Encoder, Unused),
    ("validation_step", Encoder, OtherValidation),
    ("bf16", Encoder, Float32Alone),
]
