"""The commonest commands of each verb, for its help."""

# Verb -> (what to type after `deitlt`, what it does).
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("train experiment=demo", "teacher, student and a plain ViT on 405 digits, in minutes"),
        ("train experiment=cifar10_lt_if100 trainer.devices=2", "the paper's recipe on two devices"),
        ("train experiment=folder_cpu data.root=FOLDER", "your images: FOLDER/train/CLASS/*, FOLDER/test/CLASS/*"),
        ("train resume=RUN", "go on with an interrupted run"),
        ("train -m experiment=digits seed=0,1,2", "a sweep: one run for each value"),
    ),
    "evaluate": (
        ("evaluate checkpoint=RUN", "a run's student on its test set"),
        ("evaluate checkpoint=RUN ema=true", "its moving average"),
        ("evaluate checkpoint=RUN stage=teacher", "its teacher"),
        ("evaluate checkpoint=RUN data_root=FOLDER", "where the data were moved"),
        ("evaluate checkpoint=FILE.pth experiment=imagenet_lt data_root=FOLDER", "a file of the authors'"),
    ),
    "predict": (
        ("predict checkpoint=RUN images=FOLDER", "a CSV with the classes of each image"),
        ("predict checkpoint=RUN images=cat.jpg top=5", "five classes of one image"),
        ("predict checkpoint=RUN images=FOLDER output=answers.csv", "into another file"),
        ("predict checkpoint=RUN images=FOLDER on_broken=skip", "leave out what cannot be decoded"),
        ("predict checkpoint=RUN images=FOLDER stage=teacher", "by the teacher"),
    ),
    "export": (
        ("export checkpoint=RUN", "safetensors, ONNX and torch.export, in export/"),
        ("export checkpoint=RUN formats=[safetensors] output=FOLDER", "the weights alone"),
        ("export checkpoint=RUN ema=true", "the moving average"),
        ("export checkpoint=RUN stage=teacher", "the teacher"),
        ("export checkpoint=RUN formats=[authors]", "a file that the authors' code and timm read"),
    ),
    "analyze": (
        ("analyze checkpoint=RUN", "all that each network of a run can be asked"),
        ("analyze checkpoint=RUN stage=student parts=[attention,rank]", "two parts of the student"),
        ("analyze checkpoint=RUN images=1000", "on some of the images"),
        ("analyze checkpoint=RUN stage=student ema=true folder=FOLDER", "the moving average, into a folder of its own"),
        ("analyze checkpoint=FILE.pth experiment=imagenet_lt data_root=FOLDER", "a file of the authors'"),
    ),
    "inspect": (
        ("inspect experiment=digits", "the tail, and what teacher and student see"),
        ("inspect experiment=cifar10_lt_if100 data.imbalance_factor=0.02", "the same with a shorter tail"),
        ("inspect experiment=folder_cpu data.root=FOLDER", "your images"),
        (
            "inspect experiment=digits student/transforms=multicrop student.transforms.train.local_size=8",
            "other transforms",
        ),
        ("inspect experiment=digits method=deit", "a baseline's"),
    ),
    "benchmark": (
        ("benchmark experiment=digits", "images/s of input, step and the whole"),
        ("benchmark experiment=cifar10_lt_if100 generated=50000", "of a recipe whose data are not here"),
        ("benchmark experiment=digits student/transforms=batch_small training.measured=[student]", "batch transforms"),
        ("benchmark experiment=digits compare=timm", "timm's own loader and step beside ours"),
        ("benchmark part=profile experiment=digits", "the most expensive operations of a step, and a trace"),
    ),
}
