#!/usr/bin/env python3
"""Writes fixtures/*.json with PyTorch (float64, dropout off): inputs, initial weights under this
project's names and layouts, logits, gradients of the summed loss, and the mean loss of ten steps.
With batch norm also: how many padding rows the batch has (they lie in its groups of positions and
hold nothing), the loss of inference, and the running statistics after the ten steps.

    python3 tests/oracle/make_fixtures.py
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
ROWS, STEPS = 6, 7
LENGTHS = [7, 1, 4, 6, 3, 5]
FOLDER = pathlib.Path(__file__).parent / "fixtures"


class Case:
    def __init__(self, name, layers, loss, inputs, seed):
        self.name, self.layers, self.loss, self.inputs = name, layers, loss, inputs
        self.g = torch.Generator().manual_seed(seed)
        self.fields, self.data, self.params, self.sparse = [], {}, {}, set()
        self.padding, self.training, self.running, self.sums = 0, True, {}, {}
        self.blocks = {}

    def field(self, name, dtype, shape, values, classes=0, ragged=False):
        self.fields.append(dict(name=name, dtype=dtype, shape=shape, classes=classes,
                                ragged=ragged, max_length=STEPS if ragged else 0))
        self.data[name] = values
        return values

    def real(self, *shape):
        return torch.randn(*shape, generator=self.g).float().double()

    def ids(self, bound, *shape):
        return torch.randint(bound, shape, generator=self.g)

    def param(self, name, *shape, sparse=False):
        self.params[name] = (self.real(*shape) * 0.4).float().double().requires_grad_()
        if sparse:
            self.sparse.add(name)

    def __getitem__(self, name):
        return self.params[name]


def mask():
    return torch.arange(STEPS)[None, :] < torch.tensor(LENGTHS)[:, None]


def embed(case, name, ids, valid):
    out = torch.zeros(*ids.shape, case[name].shape[1])
    out[valid] = F.embedding(ids[valid], case[name], sparse=True)
    return out


def recurrent(case, layer, x, lstm):
    """Every state; rows stop at their length."""
    units = case[layer + ".weight_hh"].shape[1]
    h = c = torch.zeros(x.shape[0], units)
    states = []
    for t in range(x.shape[1]):
        a = x[:, t] @ case[layer + ".weight_ih"].T + h @ case[layer + ".weight_hh"].T
        a = a + case[layer + ".bias"]
        if lstm:
            i, f, g, o = a.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            h = torch.tanh(a)
        states.append(h)
    return torch.stack(states, dim=1)


def gru(case, layer, x):
    """Every state. PyTorch adds two biases to r and z, here their sum is one."""
    units = case[layer + ".weight_hh"].shape[1]
    bias = case[layer + ".bias"]
    bias_hh = torch.cat([torch.zeros(2 * units), bias[3 * units:]])
    h = torch.zeros(x.shape[0], units)
    states = []
    for t in range(x.shape[1]):
        h = torch.gru_cell(x[:, t], h, case[layer + ".weight_ih"], case[layer + ".weight_hh"],
                           bias[:3 * units], bias_hh)
        states.append(h)
    return torch.stack(states, dim=1)


def recurrent_params(case, layer, gates, units, features):
    case.param(layer + ".weight_ih", gates * units, features)
    case.param(layer + ".weight_hh", gates * units, units)
    case.param(layer + ".bias", gates * units)


def dense_params(case, layer, units, features):
    case.param(layer + ".weight", units, features)
    case.param(layer + ".bias", units)


def dense(case, layer, x):
    return x @ case[layer + ".weight"].T + case[layer + ".bias"]


def behavior(kind):
    case = Case("behavior-" + kind, [{kind: dict(name="r", units=5)},
                                     {"dense": dict(name="d", units=1)}],
                {"mse": dict(target="target")}, {"events": {}}, 1)
    x = case.field("events", "float32", [3], case.real(ROWS, STEPS, 3), ragged=True)
    y = case.field("target", "float32", [1], case.real(ROWS, 1))
    recurrent_params(case, "r", dict(rnn=1, lstm=4, gru=3)[kind], 5, 3)
    if kind == "gru":
        case.param("r.bias", 4 * 5)
    dense_params(case, "d", 1, 5)

    def run():
        states = gru(case, "r", x) if kind == "gru" else recurrent(case, "r", x, kind == "lstm")
        out = dense(case, "d", states[torch.arange(ROWS), torch.tensor(LENGTHS) - 1])
        return out, F.mse_loss(out, y, reduction="sum"), ROWS
    return case, run


def next_event():
    case = Case("behavior-next-event",
                [{"embedding": dict(name="e", dim=4)}, {"lstm": dict(name="r", units=5, output="every")},
                 {"dense": dict(name="d", units="classes")}],
                {"cross_entropy": dict(target="next")}, {"events": {}, "next": {}}, 2)
    case.layers[0]["embedding"]["from"] = "events"
    x = case.field("events", "int32", [], case.ids(9, ROWS, STEPS), 9, True)
    y = case.field("next", "int32", [], case.ids(9, ROWS, STEPS), 9, True)
    case.param("e.weight", 9, 4, sparse=True)
    recurrent_params(case, "r", 4, 5, 4)
    dense_params(case, "d", 9, 5)

    def run():
        out = dense(case, "d", recurrent(case, "r", embed(case, "e.weight", x, mask()), True))
        out = out * mask()[..., None]
        return out, F.cross_entropy(out[mask()], y[mask()], reduction="sum"), int(mask().sum())
    return case, run


def two_tower():
    layers = []
    for side in ("user", "item"):
        layers += [{"embedding": {"name": side + "_table", "from": side, "dim": 4}},
                   {"concat": {"name": side + "_all", "from": [side + "_table", side + "_features"]}},
                   {"dense": dict(name=side + "_hidden", units=6, activation="relu")},
                   {"dense": dict(name=side + "_vector", units=4)}]
    layers.append({"dot": {"name": "score", "from": ["user_vector", "item_vector"]}})
    case = Case("recommend-two-tower", layers, {"bce": dict(target="label")},
                {"user": {}, "item": {}, "user_features": {}, "item_features": {}}, 3)
    ids, features = {}, {}
    for side, rows in (("user", 8), ("item", 11)):
        ids[side] = case.field(side, "int32", [], case.ids(rows, ROWS), rows)
        features[side] = case.field(side + "_features", "float32", [3], case.real(ROWS, 3))
        case.param(side + "_table.weight", rows, 4, sparse=True)
        dense_params(case, side + "_hidden", 6, 7)
        dense_params(case, side + "_vector", 4, 6)
    y = case.field("label", "float32", [1], case.ids(2, ROWS, 1).double())

    def tower(side):
        table = embed(case, side + "_table.weight", ids[side], torch.ones(ROWS, dtype=torch.bool))
        x = torch.relu(dense(case, side + "_hidden", torch.cat([table, features[side]], 1)))
        return dense(case, side + "_vector", x)

    def run():
        out = (tower("user") * tower("item")).sum(1, keepdim=True)
        return out, F.binary_cross_entropy_with_logits(out, y, reduction="sum"), ROWS
    return case, run


def mlp():
    case = Case("recommend-mlp", [{"dense": {"name": "h", "from": "user_features", "units": 6,
                                             "activation": "relu"}},
                                  {"dense": dict(name="d", units="classes")}],
                {"cross_entropy": dict(target="item")}, {"user_features": {}}, 4)
    x = case.field("user_features", "float32", [5], case.real(ROWS, 5))
    y = case.field("item", "int32", [], case.ids(7, ROWS), 7)
    dense_params(case, "h", 6, 5)
    dense_params(case, "d", 7, 6)

    def run():
        out = dense(case, "d", torch.relu(dense(case, "h", x)))
        return out, F.cross_entropy(out, y, reduction="sum"), ROWS
    return case, run


def sentiment():
    layers = [{"embedding": {"name": "words", "from": "tokens", "dim": 4}}]
    for w in (3, 4, 5):
        layers += [{"conv1d": {"name": f"conv{w}", "from": "words", "filters": 3, "width": w,
                               "activation": "relu"}}, {"max_over_time": dict(name=f"top{w}")}]
    layers += [{"concat": {"name": "all", "from": ["top3", "top4", "top5"]}},
               {"dense": dict(name="d", units="classes")}]
    case = Case("sentiment-cnn", layers, {"cross_entropy": dict(target="label")}, {"tokens": {}}, 5)
    x = case.field("tokens", "int32", [], case.ids(13, ROWS, STEPS), 13, True)
    y = case.field("label", "int32", [], case.ids(2, ROWS), 2)
    case.param("words.weight", 13, 4, sparse=True)
    for w in (3, 4, 5):
        case.param(f"conv{w}.weight", 3, w, 4)
        case.param(f"conv{w}.bias", 3)
    dense_params(case, "d", 2, 9)

    def run():
        words = embed(case, "words.weight", x, mask()).transpose(1, 2)
        tops = []
        for w in (3, 4, 5):
            r = torch.relu(F.conv1d(words, case[f"conv{w}.weight"].transpose(1, 2),
                                    case[f"conv{w}.bias"]))
            tops.append(torch.stack([r[k, :, :max(1, n - w + 1)].amax(1)
                                     for k, n in enumerate(LENGTHS)]))
        out = dense(case, "d", torch.cat(tops, 1))
        return out, F.cross_entropy(out, y, reduction="sum"), ROWS
    return case, run


def image():
    case = Case("image-cnn", [{"conv2d": {"name": "c", "from": "image", "filters": 3, "kernel": 3,
                                          "activation": "relu"}},
                              {"max_pool2d": dict(name="p", size=2)}, {"flatten": dict(name="f")},
                              {"dense": dict(name="h", units=6, activation="relu")},
                              {"dense": dict(name="d", units="classes")}],
                {"cross_entropy": dict(target="label")}, {"image": {"scale": 1 / 255}}, 6)
    x = case.field("image", "uint8", [7, 8, 2], case.ids(256, ROWS, 7, 8, 2))
    y = case.field("label", "int32", [], case.ids(4, ROWS), 4)
    case.param("c.weight", 3, 3, 3, 2)
    case.param("c.bias", 3)
    dense_params(case, "h", 6, 2 * 3 * 3)
    dense_params(case, "d", 4, 6)

    def run():
        r = F.conv2d(x.double().permute(0, 3, 1, 2) / 255, case["c.weight"].permute(0, 3, 1, 2),
                     case["c.bias"])
        r = F.max_pool2d(torch.relu(r), 2).permute(0, 2, 3, 1).flatten(1)
        out = dense(case, "d", torch.relu(dense(case, "h", r)))
        return out, F.cross_entropy(out, y, reduction="sum"), ROWS
    return case, run


def batch_norm_params(case, layer, channels):
    case.param(layer + ".weight", channels)
    case.param(layer + ".bias", channels)
    case.running[layer + ".running_mean"] = case.real(channels)
    case.running[layer + ".running_var"] = case.real(channels).abs() + 0.5


def batch_norm(case, layer, x, options, valid):
    """x [ROWS, ..., C] of which `valid` counts, normalised by groups of batch positions."""
    mean, var = case.running[layer + ".running_mean"], case.running[layer + ".running_var"]
    epsilon = options.get("epsilon", 1e-5)
    batch = ROWS + case.padding
    groups = options.get("groups", 0) or max(1, batch // 32)
    group = torch.arange(ROWS) * groups // batch
    out = torch.zeros_like(x)
    sums = [torch.zeros_like(mean), torch.zeros_like(var)]
    for g in range(groups):
        here = valid & (group == g).reshape([-1] + [1] * (valid.dim() - 1))
        found = [mean.clone(), var.clone()]   # with momentum 1: the group's own
        out[here] = F.batch_norm(x[here], *found, case[layer + ".weight"], case[layer + ".bias"],
                                 training=case.training, momentum=1.0, eps=epsilon)
        for total, own in zip(sums, found):
            total += own * int((group == g).sum())
    case.sums[layer + ".running_mean"], case.sums[layer + ".running_var"] = sums
    return out


def update_running(case, momentum):
    for name, total in case.sums.items():
        case.running[name] = (1 - momentum) * case.running[name] + momentum * total / ROWS


def norm_rows():
    options = dict(name="n", groups=3, momentum=0.3, epsilon=1e-3)
    case = Case("batch-norm-rows", [{"dense": {"name": "h", "from": "x", "units": 5,
                                               "activation": "tanh"}},
                                    {"batch_norm": options}, {"dense": dict(name="d", units=1)}],
                {"mse": dict(target="target")}, {"x": {}}, 7)
    x = case.field("x", "float32", [4], case.real(ROWS, 4))
    y = case.field("target", "float32", [1], case.real(ROWS, 1))
    dense_params(case, "h", 5, 4)
    batch_norm_params(case, "n", 5)
    dense_params(case, "d", 1, 5)

    def run():
        r = batch_norm(case, "n", torch.tanh(dense(case, "h", x)), options, torch.ones(ROWS) > 0)
        out = dense(case, "d", r)
        return out, F.mse_loss(out, y, reduction="sum"), ROWS
    return case, run


def norm_steps():
    options = dict(name="n")
    case = Case("batch-norm-steps",
                [{"lstm": {"name": "r", "from": "events", "units": 5, "output": "every"}},
                 {"batch_norm": options}, {"dense": dict(name="d", units="classes")}],
                {"cross_entropy": dict(target="next")}, {"events": {}, "next": {}}, 8)
    case.padding = 1
    x = case.field("events", "float32", [3], case.real(ROWS, STEPS, 3), ragged=True)
    y = case.field("next", "int32", [], case.ids(4, ROWS, STEPS), 4, True)
    recurrent_params(case, "r", 4, 5, 3)
    batch_norm_params(case, "n", 5)
    dense_params(case, "d", 4, 5)

    def run():
        r = batch_norm(case, "n", recurrent(case, "r", x, True), options, mask())
        out = dense(case, "d", r) * mask()[..., None]
        return out, F.cross_entropy(out[mask()], y[mask()], reduction="sum"), int(mask().sum())
    return case, run


def norm_image():
    options = dict(name="n", groups=2)
    case = Case("batch-norm-image", [{"conv2d": {"name": "c", "from": "image", "filters": 3,
                                                 "kernel": 3, "activation": "tanh"}},
                                     {"batch_norm": options}, {"max_pool2d": dict(name="p", size=2)},
                                     {"flatten": dict(name="f")},
                                     {"dense": dict(name="d", units="classes")}],
                {"cross_entropy": dict(target="label")}, {"image": {"scale": 1 / 255}}, 9)
    case.padding = 2   # groups of four and of two rows
    x = case.field("image", "uint8", [7, 6, 2], case.ids(256, ROWS, 7, 6, 2))
    y = case.field("label", "int32", [], case.ids(4, ROWS), 4)
    case.param("c.weight", 3, 3, 3, 2)
    case.param("c.bias", 3)
    batch_norm_params(case, "n", 3)
    dense_params(case, "d", 4, 2 * 2 * 3)

    def run():
        r = F.conv2d(x.double().permute(0, 3, 1, 2) / 255, case["c.weight"].permute(0, 3, 1, 2),
                     case["c.bias"])
        r = torch.tanh(r).permute(0, 2, 3, 1)
        r = batch_norm(case, "n", r, options, torch.ones(r.shape[:3]) > 0)
        r = F.max_pool2d(r.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1).flatten(1)
        out = dense(case, "d", r)
        return out, F.cross_entropy(out, y, reduction="sum"), ROWS
    return case, run


def conv(case, layer, x, stride=1, padding=0, groups=1):
    """x [ROWS, C, H, W]."""
    return F.conv2d(x, case[layer + ".weight"].permute(0, 3, 1, 2), None, stride, padding,
                    groups=groups)


def norm(case, layer, x, options):
    x = x.permute(0, 2, 3, 1)
    return batch_norm(case, layer, x, options, torch.ones(x.shape[:3]) > 0).permute(0, 3, 1, 2)


def resnet_model():
    """A basic block that halves the size, then a bottleneck with groups twice."""
    def conv2d(filters, kernel, **more):
        return {"conv2d": dict(filters=filters, kernel=kernel, bias=False, **more)}
    normal, relu = {"batch_norm": dict(groups=2)}, {"activation": dict(kind="relu")}
    branch = {"batch_norm": dict(name="branch", groups=2)}
    basic = [conv2d("$filters", 3, stride=2, padding=1), normal, relu,
             conv2d("$filters", 3, padding=1), branch,
             {"conv2d": {"from": "input", "filters": "$filters", "kernel": 1, "stride": 2,
                         "bias": False}},
             {"batch_norm": dict(name="shortcut", groups=2)},
             {"add": {"from": ["branch", "shortcut"], "activation": "relu"}}]
    bottleneck = [conv2d("$filters", 1), normal, relu,
                  conv2d("$filters", 3, padding=1, groups=2), normal, relu,
                  conv2d("$filters*3", 1), branch,
                  {"add": {"from": ["branch", "input"], "activation": "relu"}}]
    blocks = dict(basic=dict(parameters=["filters"], layers=basic),
                  bottleneck=dict(parameters=["filters"], layers=bottleneck))
    layers = [{"conv2d": {"name": "stem", "from": "image", "filters": 4, "kernel": 3, "padding": 1,
                          "bias": False}}, {"batch_norm": dict(name="n", groups=2)}, relu,
              {"max_pool2d": dict(size=3, stride=2, padding=1)},
              {"use": {"block": "basic", "name": "a", "with": {"filters": 6}}},
              {"use": {"block": "bottleneck", "name": "b", "repeat": 2, "with": {"filters": 2}}},
              {"avg_pool2d": dict(size=2, stride=1)}, {"global_avg_pool": {}},
              {"dense": dict(name="d", units="classes")}]
    return blocks, layers


def resnet():
    options = dict(groups=2)
    blocks, layers = resnet_model()
    case = Case("image-resnet", layers, {"cross_entropy": dict(target="label")},
                {"image": {"scale": 1 / 255}}, 11)
    case.blocks, case.padding = blocks, 1
    x = case.field("image", "uint8", [9, 10, 3], case.ids(256, ROWS, 9, 10, 3))
    y = case.field("label", "int32", [], case.ids(4, ROWS), 4)
    case.param("stem.weight", 4, 3, 3, 3)
    batch_norm_params(case, "n", 4)
    case.param("a.conv2d0.weight", 6, 3, 3, 4)
    case.param("a.conv2d3.weight", 6, 3, 3, 6)
    case.param("a.conv2d5.weight", 6, 1, 1, 4)
    for name in ("batch_norm1", "branch", "shortcut"):
        batch_norm_params(case, "a." + name, 6)
    for b in ("b.0.", "b.1."):
        case.param(b + "conv2d0.weight", 2, 1, 1, 6)
        case.param(b + "conv2d3.weight", 2, 3, 3, 1)
        case.param(b + "conv2d6.weight", 6, 1, 1, 2)
        for name, channels in (("batch_norm1", 2), ("batch_norm4", 2), ("branch", 6)):
            batch_norm_params(case, b + name, channels)
    dense_params(case, "d", 4, 6)

    def basic(r):
        s = torch.relu(norm(case, "a.batch_norm1", conv(case, "a.conv2d0", r, 2, 1), options))
        s = norm(case, "a.branch", conv(case, "a.conv2d3", s, 1, 1), options)
        return torch.relu(s + norm(case, "a.shortcut", conv(case, "a.conv2d5", r, 2), options))

    def bottleneck(b, r):
        s = torch.relu(norm(case, b + "batch_norm1", conv(case, b + "conv2d0", r), options))
        s = norm(case, b + "batch_norm4", conv(case, b + "conv2d3", s, 1, 1, 2), options)
        s = torch.relu(s)
        return torch.relu(norm(case, b + "branch", conv(case, b + "conv2d6", s), options) + r)

    def run():
        r = conv(case, "stem", x.double().permute(0, 3, 1, 2) / 255, 1, 1)
        r = F.max_pool2d(torch.relu(norm(case, "n", r, options)), 3, 2, 1)
        r = bottleneck("b.1.", bottleneck("b.0.", basic(r)))
        out = dense(case, "d", F.avg_pool2d(r, 2, 1).mean((2, 3)))
        return out, F.cross_entropy(out, y, reduction="sum"), ROWS
    return case, run


def numbers(tensor):
    return [float(f"{v:.12g}") for v in tensor.detach().flatten().tolist()]


def write(case, run):
    start = {n: dict(shape=list(p.shape), sparse=n in case.sparse, values=numbers(p))
             for n, p in {**case.params, **case.running}.items()}
    case.training = False
    inferred = run()
    case.training = True
    dense_params_ = [p for n, p in case.params.items() if n not in case.sparse]
    optimizers = [torch.optim.Adam(dense_params_, lr=0.01)]
    if case.sparse:
        optimizers.append(torch.optim.SparseAdam([case[n] for n in case.sparse], lr=0.01))
    losses, logits, grads = [], None, None
    for step in range(10):
        for p in case.params.values():
            p.grad = None
        out, loss, weight = run()
        (loss / weight).backward()
        losses.append(float(loss / weight))
        if step == 0:
            logits = numbers(inferred[0])
            grads = {n: numbers((p.grad.to_dense() if p.grad.is_sparse else p.grad) * weight)
                     for n, p in case.params.items()}
            grads.update((n, numbers(total)) for n, total in case.sums.items())
        update_running(case, next((layer["batch_norm"].get("momentum", 0.1) for layer in case.layers
                                   if "batch_norm" in layer), 0))
        for optimizer in optimizers:
            optimizer.step()
    model = dict(inputs=case.inputs, layers=case.layers, loss=case.loss)
    if case.blocks:
        model["blocks"] = case.blocks
    fixture = dict(name=case.name, rows=ROWS, lengths=LENGTHS,
                   model=model,
                   optimizer=dict(name="adam", learning_rate=0.01), fields=case.fields,
                   data={n: numbers(v.double()) for n, v in case.data.items()}, params=start,
                   logits=logits, grads=grads, losses=losses)
    if case.running:
        fixture.update(padding=case.padding, infer_loss=float(inferred[1] / inferred[2]),
                       running={n: numbers(v) for n, v in case.running.items()})
    text = json.dumps(fixture, separators=(",", ":"))
    (FOLDER / (case.name + ".json")).write_text(text + "\n")
    print(case.name, len(text), losses[0], losses[-1])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for made in (behavior("rnn"), behavior("lstm"), behavior("gru"), next_event(), two_tower(),
                 mlp(), sentiment(), image(), resnet(), norm_rows(), norm_steps(), norm_image()):
        write(*made)
