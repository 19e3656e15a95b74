"""A trained run's networks as files that deitlt did not write."""

import torch
from foreign_files import ARGUMENTS, paco_file, prefixed

from deitlt.checkpoints import authors_student_state, load_student, load_teacher, read_checkpoint
from deitlt.models import CifarResNet

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
    torch.save(authors_student_state(load_student(last), load_student(last, ema=True)) | {"args": ARGUMENTS}, path)
    return path


def permuted_teacher(run, path, order):
    """The run's own teacher as if its classes stood in another order: its place c has what was class order[c]."""
    content, places = read_checkpoint(run / "teacher" / "last.ckpt"), torch.tensor(list(order))
    for key in ("class_names", "labels", "counts"):
        content["deitlt"][key] = [content["deitlt"][key][c] for c in order]
    now = places.argsort().tolist()
    content["deitlt"]["groups"] = {n: sorted(now[c] for c in g) for n, g in content["deitlt"]["groups"].items()}
    weights = content["state_dict"]
    weights["network.linear.weight"] = weights["network.linear.weight"][:, places]
    torch.save(content, path)
    return path
