"""Specs, and files in the layouts of DeiT-LT's authors and of timm, with weights at random or of a trained run."""

import argparse
from pathlib import PosixPath

import numpy as np
import timm
import torch
from torch import nn

from deitlt.checkpoints import ModelSpec, authors_student_state, load_student, load_teacher, read_checkpoint
from deitlt.models import CifarResNet

ARGUMENTS = argparse.Namespace(
    model="deit_base_distilled_patch16_224",
    output_dir=PosixPath("/somewhere/else"),
    device=torch.device("cuda"),
    best=np.float64(81.9),
    epochs=np.int64(1200),
    teacher=argparse.Namespace(path=PosixPath("teacher.pth.tar")),
)


def make_spec(kind, model, **fields):
    """What a checkpoint says of a network that knows the classes of the fixture `info`."""
    groups = {"head": [0], "mid": [1, 2], "tail": [3]}
    classes = {"class_names": ["ant", "bee", "cat", "dog"], "labels": [0, 1, 2, 3], "counts": [40, 20, 8, 2]}
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_share": 0.875, "logit_scale": 1.0}
    place = {"image_size": model.get("image_size", 16), "data": {"name": "folder", "root": "/somebody/elses/images"}}
    rest = {"groups": groups, "authors_labels": [], "protocol": "last", "target": f"deitlt.models.create_{kind}"}
    return ModelSpec(kind=kind, model=dict(model), **(classes | statistics | place | rest | fields))


def scatter(network):
    """Weights and statistics at random, so that answers differ from image to image."""
    stream = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=stream)
        elif value.is_floating_point():
            value.normal_(0, 0.3, generator=stream)
    return network.eval()


def transformer(width=64, depth=2, image_size=16, patch_size=4, num_classes=5, heads=1, distilled=True, name=None):
    """timm's DeiT or ViT, small."""
    name = name or ("deit_tiny_distilled_patch16_224" if distilled else "vit_tiny_patch16_224")
    sizes = {"embed_dim": width, "depth": depth, "num_heads": heads, "img_size": image_size, "patch_size": patch_size}
    return scatter(timm.create_model(name, num_classes=num_classes, **sizes))


def prefixed(weights, prefix):
    return {f"{prefix}{name}": value for name, value in weights.items()}


def student_file(vit, average=None, prefix="", args=ARGUMENTS):
    """{model, optimizer, lr_scheduler, epoch, model_ema, scaler, args}, as the authors' training writes it."""
    return {
        "model": prefixed(vit.state_dict(), prefix),
        "optimizer": {"state": {}, "param_groups": [{"lr": 5e-4}]},
        "lr_scheduler": {"base_values": [5e-4]},
        "epoch": 1199,
        "model_ema": None if average is None else prefixed(average.state_dict(), prefix),
        "scaler": {"scale": 65536.0},
        "args": args,
    }


def trunk_of(network):
    """A ResNet's weights without its classifier's."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith(("linear.", "fc."))}


def paco_file(network, prefix="module.", dim=8):
    """PaCo's pair of encoders, of a ResNet with a linear classifier: its trunk, projections, queue, centres."""
    linear = network.linear if isinstance(network, CifarResNet) else network.fc
    features, num_classes = linear.in_features, linear.out_features
    projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim)).state_dict()
    encoder = trunk_of(network) | prefixed(projection, "fc.")
    other = {name: torch.zeros_like(value) for name, value in encoder.items()}
    centres = {"linear.weight": linear.weight.detach(), "linear.bias": linear.bias.detach()}
    queue = {"queue": torch.randn(16, dim), "queue_l": torch.randint(num_classes, (16,)), "queue_ptr": torch.zeros(1)}
    weights = queue | prefixed(encoder, "encoder_q.") | prefixed(other, "encoder_k.") | centres
    return {"epoch": 400, "arch": "resnet32", "state_dict": prefixed(weights, prefix), "optimizer": {}}


# A sorted class -> the data set's own label of it, for `data.class_order=FILE`.
ORIGINAL = (3, 0, 9, 1, 8, 2, 7, 4, 6, 5)


def ldam_teacher(run, path):
    """The run's teacher as the authors' training writes it."""
    weights = load_teacher(run / "teacher" / "last.ckpt").state_dict()
    torch.save({"epoch": 200, "arch": "resnet32", "state_dict": prefixed(weights, "module.")}, path)
    return path


def linear_teacher():
    """A teacher with a linear head for ten classes, at random."""
    torch.manual_seed(7)
    network = CifarResNet(10, 8)
    torch.nn.init.normal_(network.linear.weight)
    return network


def paco_teacher(path, order=range(10)):
    """`linear_teacher` as PaCo's authors write theirs, its answers for class c under order[c]."""
    network, original = linear_teacher(), torch.tensor(list(order)).argsort()
    for parameter in (network.linear.weight, network.linear.bias):
        parameter.data = parameter.data[original]
    torch.save(paco_file(network), path)
    return path


def authors_student(run, path):
    """The run's student and its average, as the authors write theirs, a command line's arguments beside them."""
    last = run / "student" / "last.ckpt"
    average = {"model_ema": authors_student_state(load_student(last, ema=True))["model"]}
    torch.save(authors_student_state(load_student(last)) | average | {"args": ARGUMENTS}, path)
    return path


def permuted_teacher(run, path, order):
    """The run's own teacher as if its classes stood in another order: its place c has what was class order[c]."""
    content = read_checkpoint(run / "teacher" / "last.ckpt")
    content["deitlt"] = ModelSpec(**content["deitlt"]).in_order(order).as_plain()
    weights = content["state_dict"]
    weights["network.linear.weight"] = weights["network.linear.weight"][:, list(order)]
    torch.save(content, path)
    return path
