"""Models of PyTorch and torchvision with drawn weights, written by both of PyTorch's exporters.

    python make_torch.py DIRECTORY [NAME ...]

Runs in an environment of its own (requirements-torch.txt), because PyTorch brings gigabytes with it. `script` is the
exporter by tracing, `dynamo` the one by torch.export, which is the default today.
"""

import pathlib
import sys

import torch
import torchvision
from torch import nn


class Recurrent(nn.Module):
    """Letters to classes by a recurrent layer."""

    def __init__(self, kind, **options):
        super().__init__()
        self.embed = nn.Embedding(96, 32)
        self.cell = kind(32, 48, batch_first=True, **options)
        self.out = nn.Linear(48 * (2 if options.get("bidirectional") else 1), 7)

    def forward(self, ids):
        return self.out(self.cell(self.embed(ids))[0].mean(1))


class Text(nn.Module):
    """A small BERT: ids and a mask in, a normalised vector out."""

    def __init__(self):
        super().__init__()
        self.word, self.place = nn.Embedding(500, 64), nn.Embedding(128, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids, mask):
        x = self.word(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        x = self.layers(x, src_key_padding_mask=mask == 0)
        mask = mask.unsqueeze(-1).to(x.dtype)
        return nn.functional.normalize((x * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=1)


class Decoder(nn.Module):
    """A small GPT: causal attention, weights of the embedding used twice."""

    def __init__(self):
        super().__init__()
        self.word, self.place = nn.Embedding(300, 64), nn.Embedding(128, 64)
        self.qkv, self.out = nn.ModuleList(nn.Linear(64, 192) for _ in range(2)), nn.ModuleList(nn.Linear(64, 64) for _ in range(2))
        self.norm = nn.LayerNorm(64)

    def forward(self, ids):
        b, n = ids.shape
        x = self.word(ids) + self.place(torch.arange(n, device=ids.device))
        for qkv, out in zip(self.qkv, self.out):
            q, k, v = qkv(self.norm(x)).reshape(b, n, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + out(y.transpose(1, 2).reshape(b, n, 64))
        return self.norm(x) @ self.word.weight.T


class Unet(nn.Module):
    """Two steps down and up: ConvTranspose, bilinear upsampling, skips."""

    def __init__(self):
        super().__init__()
        block = lambda i, o: nn.Sequential(  # noqa: E731
            nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU()
        )
        self.a, self.b, self.c, self.d, self.e = block(3, 16), block(16, 32), block(32, 32), block(64, 16), block(32, 16)
        self.up, self.out = nn.ConvTranspose2d(32, 32, 2, stride=2), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(nn.functional.max_pool2d(a, 2))
        c = self.c(nn.functional.max_pool2d(b, 2))
        d = self.d(torch.cat([self.up(c), b], 1))
        d = nn.functional.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.softmax(self.out(self.e(torch.cat([d, a], 1))), 1)


class Sound(nn.Module):
    """Whisper's way in: two convolutions of one axis and a transformer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(40, 64, 3, padding=1), nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.place = nn.Parameter(torch.randn(50, 64) * 0.1)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True), 2)

    def forward(self, mel):
        x = nn.functional.gelu(self.b(nn.functional.gelu(self.a(mel)))).transpose(1, 2)
        return self.layers(x + self.place)


class Speaker(nn.Module):
    """Whisper base's decoder in its size: 52 million weights, the words' table for the way in and out."""

    def __init__(self, words=51_865, size=512):
        super().__init__()
        self.word, self.place = nn.Embedding(words, size), nn.Embedding(448, size)
        layer = nn.TransformerDecoderLayer(size, 8, 4 * size, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerDecoder(layer, 6, nn.LayerNorm(size))

    def forward(self, ids, sound):
        n = ids.shape[1]
        x = self.word(ids) + self.place(torch.arange(n, device=ids.device))
        mask = torch.full((n, n), -1e9).triu(1)
        return self.layers(x, sound, tgt_mask=mask)[:, -1] @ self.word.weight.T


class Yolo(nn.Module):
    """A detector's head: three maps, anchors, boxes decoded in the graph."""

    def __init__(self):
        super().__init__()
        conv = lambda i, o, s: nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())  # noqa: E731
        self.stem = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2))
        self.steps = nn.ModuleList([conv(32, 32, 2), conv(32, 48, 2), conv(48, 64, 2)])
        self.heads = nn.ModuleList([nn.Conv2d(c, 3 * 9, 1) for c in (32, 48, 64)])

    def forward(self, x):
        x, found = self.stem(x), []
        for step, head, stride in zip(self.steps, self.heads, (8, 16, 32)):
            x = step(x)
            y = head(x)
            b, _, h, w = y.shape
            y = y.view(b, 3, 9, h, w).permute(0, 1, 3, 4, 2).sigmoid()
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            xy = (y[..., :2] * 2 + torch.stack([columns, rows], -1) - 0.5) * stride
            wh = (y[..., 2:4] * 2) ** 2 * stride * 4
            found.append(torch.cat([xy, wh, y[..., 4:]], -1).reshape(b, -1, 9))
        return torch.cat(found, 1)


class Table(nn.Module):
    """Numbers and a category, as tables have them."""

    def __init__(self):
        super().__init__()
        self.kind = nn.Embedding(10, 4)
        self.net = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.SELU(), nn.Linear(32, 16), nn.GELU(approximate="tanh"), nn.Linear(16, 3))

    def forward(self, numbers, kind):
        return self.net(torch.cat([numbers, self.kind(kind)], 1))


class Segmenter(nn.Module):
    """torchvision's answer in a dictionary; a tensor here."""

    def __init__(self):
        super().__init__()
        self.inner = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)

    def forward(self, image):
        return self.inner(image)["out"]


def vision(name, **options):
    return lambda: getattr(torchvision.models, name)(weights=None, **options)


IMAGE = {"image": ((1, 3, 224, 224), {0: "batch"})}
SMALL = {"image": ((1, 3, 64, 64), {0: "batch", 2: "height", 3: "width"})}
IDS = {"ids": ((1, 16, 96), {0: "batch", 1: "length"})}
# Of each: how it is made, its inputs (the last number of a tensor of ids is how many there are), and who writes it.
MODELS = {
    "resnet18": (vision("resnet18"), IMAGE, "script dynamo"),
    "mobilenet-v3-small": (vision("mobilenet_v3_small"), IMAGE, "script dynamo"),
    "shufflenet-v2": (vision("shufflenet_v2_x0_5"), IMAGE, "script dynamo"),
    "efficientnet-b0": (vision("efficientnet_b0"), IMAGE, "dynamo"),
    "squeezenet": (vision("squeezenet1_1"), IMAGE, "script"),
    "mnasnet": (vision("mnasnet0_5"), IMAGE, "dynamo"),
    "regnet-y": (vision("regnet_y_400mf"), IMAGE, "script"),
    "googlenet": (vision("googlenet", aux_logits=False, init_weights=False), IMAGE, "script"),
    "lraspp": (Segmenter, IMAGE, "dynamo"),
    "vit": (lambda: torchvision.models.VisionTransformer(96, 16, 3, 4, 192, 384), {"image": ((1, 3, 96, 96), {0: "batch"})}, "script dynamo"),
    "convnext": (lambda: torchvision.models.ConvNeXt([
        torchvision.models.convnext.CNBlockConfig(*each) for each in ((32, 64, 2), (64, 128, 2), (128, None, 2))
    ]), {"image": ((1, 3, 96, 96), {0: "batch"})}, "script dynamo"),
    "swin": (lambda: torchvision.models.SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4]), {"image": ((1, 3, 64, 64), {0: "batch"})}, "script dynamo"),
    "unet": (Unet, SMALL, "script dynamo"),
    "resnet50": (vision("resnet50"), IMAGE, "script"),
    "vgg19": (vision("vgg19"), IMAGE, "script"),
    "whisper-decoder": (Speaker, {"ids": ((1, 8, 51_865), {0: "batch"}), "sound": ((1, 100, 512), {0: "batch"})}, "script"),
    "yolo": (Yolo, {"image": ((1, 3, 128, 128), {0: "batch", 2: "height", 3: "width"})}, "script dynamo"),
    "text": (Text, IDS | {"mask": ((1, 16, 2), {0: "batch", 1: "length"})}, "script dynamo"),
    "decoder": (Decoder, IDS, "script dynamo"),
    "sound": (Sound, {"mel": ((1, 40, 100), {0: "batch"})}, "script dynamo"),
    "lstm": (lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True), IDS, "script dynamo"),
    "gru": (lambda: Recurrent(nn.GRU), IDS, "script dynamo"),
    "rnn": (lambda: Recurrent(nn.RNN), IDS, "script"),
    "table": (Table, {"numbers": ((1, 8), {0: "batch"}), "kind": ((1, 10), {0: "batch"})}, "script dynamo"),
}


def example(name, shape):
    if name in ("ids", "mask", "kind"):
        return torch.randint(0, shape[-1], (2, *shape[1:-1]))
    return torch.randn(2, *shape[1:])


def lively(model):
    """What training leaves behind: statistics and scales that are neither 0 nor 1."""
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.7, 1.3)
            nn.init.normal_(part.bias, 0, 0.1)
    return model.eval()


def export(name, exporter, to):
    torch.manual_seed(7)
    make, inputs, _ = MODELS[name]
    model = lively(make())
    given = tuple(example(key, shape) for key, (shape, _) in inputs.items())
    names = {"input_names": list(inputs), "output_names": ["output"]}
    with torch.no_grad():
        if exporter == "script":
            axes = {key: dims for key, (_, dims) in inputs.items()}
            torch.onnx.export(model, given, to, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
        else:
            dynamic = torch.export.Dim.DYNAMIC
            shapes = tuple({at: dynamic for at in dims} for _, dims in inputs.values())
            torch.onnx.export(model, given, to, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False, **names)


def main():
    to, wanted = pathlib.Path(sys.argv[1]), sys.argv[2:]
    to.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # One operator for a whole layer, which the exporter by tracing does not know.
    torch.backends.mha.set_fastpath_enabled(False)
    for name, (_, _, exporters) in MODELS.items():
        for exporter in exporters.split():
            each = f"{name}-{exporter}"
            if wanted and each not in wanted:
                continue
            try:
                export(name, exporter, str(to / f"{each}.onnx"))
                print(each, flush=True)
            except Exception as error:  # noqa: BLE001: the others are made all the same
                print(f"{each}: NOT MADE: {' '.join(str(error).split())[:300]}", flush=True)


if __name__ == "__main__":
    main()
