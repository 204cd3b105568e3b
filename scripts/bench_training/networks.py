"""The networks that both sides train, written the lean way in PyTorch, with a batch for each."""

import torch
import torch.nn.functional as F
from torch import nn


class MLP(nn.Module):
    shape, batch = (784,), 128

    def __init__(self):
        super().__init__()
        self.hidden1, self.hidden2, self.head = nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10)

    def forward(self, x):
        return self.head(F.relu(self.hidden2(F.relu(self.hidden1(x)))))


class ConvNet(nn.Module):
    shape, batch = (1, 28, 28), 128

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.hidden, self.head = nn.Linear(64 * 49, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(F.relu(self.hidden(x.flatten(1))))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; a projection (1x1 convolution) where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut_bn(self.shortcut(x))))


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR: 3 stages of 3 blocks with 16, 32 and 64 channels; shortcut B (He et al., CVPR 2016)."""

    shape, batch = (3, 32, 32), 64

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for stage, outputs in enumerate((16, 32, 64)):
            blocks = []
            for index in range(3):
                blocks.append(Block(inputs, outputs, 2 if stage > 0 and index == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.head(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Linear(nn.Linear):
    """A linear layer whose weight may have a mask: it is multiplied in every step, which masks the gradient too."""

    mask = None

    def forward(self, x):
        return F.linear(x, self.weight if self.mask is None else self.weight * self.mask, self.bias)


class Layer(nn.Module):
    def __init__(self, size, heads, wide):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (Linear(size, size) for _ in range(4))
        self.wide, self.narrow = Linear(size, wide), Linear(wide, size)
        self.norm1, self.norm2 = nn.LayerNorm(size, 1e-12), nn.LayerNorm(size, 1e-12)

    def forward(self, x, mask):
        batch, length, size = x.shape

        def split(y):
            return y.view(batch, length, self.heads, size // self.heads).transpose(1, 2)

        y = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), attn_mask=mask)
        x = self.norm1(x + self.dense(y.transpose(1, 2).reshape(batch, length, size)))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x))))


class Bert(nn.Module):
    """A lean BERT. With `words` as its last weight it predicts tokens at all positions, else one of two classes."""

    def __init__(self, vocab, size, layers, heads, wide, batch, length, predicts_tokens):
        super().__init__()
        self.batch, self.length, self.predicts_tokens = batch, length, predicts_tokens
        self.words, self.positions, self.types = (nn.Embedding(n, size) for n in (vocab, 512, 2))
        self.norm = nn.LayerNorm(size, 1e-12)
        self.layers = nn.ModuleList(Layer(size, heads, wide) for _ in range(layers))
        self.dense = nn.Linear(size, size)
        if predicts_tokens:
            self.dense_norm, self.bias = nn.LayerNorm(size, 1e-12), nn.Parameter(torch.zeros(vocab))
        else:
            self.classifier = nn.Linear(size, 2)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, 0, 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        self.configuration = {
            "vocab_size": vocab, "hidden_size": size, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": wide, "max_position_embeddings": 512, "type_vocab_size": 2,
            "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}

    def forward(self, ids, mask):
        x = self.words(ids) + (self.positions.weight[:ids.shape[1]] + self.types.weight[0])
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        if self.predicts_tokens:
            return F.linear(self.dense_norm(F.gelu(self.dense(x))), self.words.weight, self.bias)
        return self.classifier(torch.tanh(self.dense(x[:, 0])))

    def masked(self):
        """The layers whose weights a pruned network masks, by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Linear)}


BERTS = {
    # vocabulary, size, layers, heads, feed-forward, batch, length, predicts tokens
    "bert_mini": (8192, 256, 4, 4, 1024, 32, 128, True),
    "minilm": (30522, 384, 6, 12, 1536, 16, 128, False),
    "bert_odd": (8192, 320, 4, 5, 1280, 24, 96, False),
}
IMAGES = {"mlp": MLP, "convnet": ConvNet, "resnet20": ResNet20}
# A suffix -80 masks 80 % of the encoder's linear weights at random, -80-1x4 blocks of 1 x 4.
SPARSE = ["minilm-80", "minilm-90", "minilm-95"]
NAMES = [*IMAGES, *BERTS, *SPARSE]


def is_images(name):
    return name in IMAGES


def rate(name):
    return 1e-3 if is_images(name) else 1e-4


def build(name):
    """A network with PyTorch's random state as it is."""
    base = name.split("-")[0]
    return IMAGES[base]() if base in IMAGES else Bert(*BERTS[base])


def transformers_name(name):
    """What transformers, and Espalier, call a parameter of `Bert`."""
    parts = name.split(".")
    if parts[0] == "layers":
        middle = {
            "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
            "dense": "attention.output.dense", "norm1": "attention.output.LayerNorm", "wide": "intermediate.dense",
            "narrow": "output.dense", "norm2": "output.LayerNorm"}[parts[2]]
        return f"bert.encoder.layer.{parts[1]}.{middle}.{parts[3]}"
    return {
        "words": "bert.embeddings.word_embeddings.weight", "positions": "bert.embeddings.position_embeddings.weight",
        "types": "bert.embeddings.token_type_embeddings.weight", "norm": "bert.embeddings.LayerNorm." + parts[-1],
        "dense_norm": "cls.predictions.transform.LayerNorm." + parts[-1], "bias": "cls.predictions.bias",
        "classifier": "classifier." + parts[-1]}[parts[0]]


def shared_name(net, name):
    """What both sides call a parameter."""
    if not isinstance(net, Bert):
        return name
    if name.startswith("dense."):
        head = "cls.predictions.transform.dense." if net.predicts_tokens else "bert.pooler.dense."
        return head + name.split(".")[-1]
    return transformers_name(name)


def loss(net, compiled, inputs, autocast):
    """The mean cross-entropy of a batch."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        if isinstance(net, Bert):
            mask = inputs["mask"][:, None, None, :].bool()
            logits = compiled(inputs["ids"], mask)
        else:
            logits = compiled(inputs["x"])
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), inputs["labels"].view(-1))
