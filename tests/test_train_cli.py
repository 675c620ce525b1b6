"""`fastconv train` and `fastconv predict`: data in every form, resuming, a real Ctrl-C, errors of a line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.models import LeNet5
from fastconv.tools import cli, datasets, nets, train, trained

PIL = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder of its own, where checkpoints go by default, and one thread."""
    monkeypatch.chdir(tmp_path)
    with fc.use(threads=1):
        yield tmp_path


def bars(n, side=28):
    """Bright bars, standing and lying, as uint8; the direction is the label."""
    rng = np.random.default_rng(0)  # the same whatever ran before
    x = rng.integers(0, 60, (n, side, side)).astype(np.uint8)
    y = np.arange(n) % 2
    for i, at in enumerate(rng.integers(2, side - 4, n)):
        x[i, at if y[i] else slice(None), slice(None) if y[i] else at] += 180
    return x, y


def write_npz(path="bars.npz", **changed):
    x, y = bars(60)
    arrays = {"x_train": x[:48], "y_train": y[:48], "x_test": x[48:], "y_test": y[48:]}
    np.savez(path, **arrays | changed)
    return path


def write_folder(path="pictures", side=28, mode="L", n=20):
    x, y = bars(n, side)
    for i in range(n):
        folder = Path(path, ("standing", "lying")[y[i]])
        folder.mkdir(parents=True, exist_ok=True)
        PIL.fromarray(x[i]).convert(mode).save(folder / f"{i:02}.png")
    return path


def fastconv(capsys, *words):
    """Status, standard output, standard error."""
    status = cli.main(list(words))
    return status, *capsys.readouterr()


def test_train_then_predict(capsys):
    write_npz()
    status, out, err = fastconv(capsys, "train", "--model", "lenet5", "--data", "bars.npz", "--epochs", "3")
    assert (status, err) == (0, "")
    assert "bars.npz: 48 images of 1x28x28 to train on, 12 to test, 2 classes" in out
    assert "epoch 3/3: loss" in out
    assert "images/s" in out
    assert "saved to lenet5.npz" in out
    x, _ = bars(2)
    for name, pixels in (("a.png", x[0]), ("b.png", x[1])):
        PIL.fromarray(pixels).save(name)
    status, out, _ = fastconv(capsys, "predict", "lenet5.npz", "a.png", "b.png")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines] == ["a.png", "b.png"]
    status, out, _ = fastconv(capsys, "predict", "lenet5.npz", "a.png", "--json", "--top", "1")
    net = LeNet5(2).load("lenet5.npz")
    wanted = net.predict_proba(x[:1, None] / np.float32(255))[0]
    (told,) = json.loads(out)
    assert told["image"] == "a.png"
    assert told["classes"] == {str(wanted.argmax()): pytest.approx(wanted.max(), rel=1e-5)}


def test_training_learns_and_inverting_matters(capsys):
    fastconv(capsys, "train", "--model", "mlp", "--data", write_npz(), "--epochs", "30")
    x, _ = bars(60)  # the second is one of those it has learnt
    PIL.fromarray(255 - x[1]).save("ink.png")
    told = {}
    for words in ((), ("--invert",)):
        out = fastconv(capsys, "predict", "mlp.npz", "ink.png", "--json", *words)[1]
        told[words] = json.loads(out)[0]["classes"]
    assert max(told["--invert",], key=told["--invert",].get) == "1"
    assert told[()] != told["--invert",]


@pytest.mark.parametrize("model", ["lenet5", "lenet5-1998", "mlp"])
def test_digits_fit_every_small_net(capsys, model):
    pytest.importorskip("sklearn")
    status, out, _ = fastconv(capsys, "train", "--model", model, "--data", "digits", "--epochs", "1")
    assert status == 0
    side = nets.NETS[model].digits
    assert f"1,437 images of 1x{side}x{side} to train on, 360 to test, 10 classes" in out
    assert trained.read_about(Path(f"{model}.npz")).shape == (1, side, side)


def test_a_folder_of_images(capsys):
    write_folder(side=40, mode="RGB")
    words = ("train", "--model", "lenet5", "--data", "pictures", "--epochs", "1")
    status, _, err = fastconv(capsys, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "the images are 1x40x40: lenet5 takes 1x28x28 or 1x32x32: --resize scales and crops them" in err
    status, out, _ = fastconv(capsys, *words, "--resize", "--augment", "shift+flip")
    assert status == 0
    assert "16 images of 1x28x28 to train on, 4 to test, 2 classes" in out
    assert trained.read_about(Path("lenet5.npz")).classes == ("lying", "standing")
    status, out, _ = fastconv(capsys, "predict", "lenet5.npz", "pictures/lying", "--resize")
    assert [line.split()[0] for line in out.splitlines()] == [
        f"pictures/lying/{i:02}.png" for i in range(1, 20, 2)
    ]
    status, _, err = fastconv(capsys, "predict", "lenet5.npz", "pictures/lying/01.png")
    assert status == 2
    assert "01.png has 40x40 pixels: the net takes 28x28: --resize scales and crops it" in err


def test_folders_of_train_and_test(capsys):
    for part, n in (("train", 8), ("test", 4)):
        write_folder(f"pictures/{part}", n=n)
    data = datasets.folder(Path("pictures"))
    assert (data.x_train.shape, data.x_test.shape) == ((8, 1, 28, 28), (4, 1, 28, 28))
    np.testing.assert_array_equal(data.y_test, [0, 0, 1, 1])


def test_a_folder_is_split_in_proportion():
    write_folder(n=50)
    data = datasets.folder(Path("pictures"), seed=1, test_fraction=0.2)
    np.testing.assert_array_equal(np.bincount(data.y_test), [5, 5])
    assert data.x_train.dtype == np.float32
    assert 0 < data.x_train.max() <= 1
    assert not np.array_equal(data.x_test, datasets.folder(Path("pictures"), seed=2).x_test)


def test_resumed_is_the_same_as_never_stopped(capsys, monkeypatch):
    write_npz()
    handler = signal.getsignal(signal.SIGINT)  # ignored in a shell's background
    words = ("train", "--model", "lenet5", "--data", "bars.npz", "--epochs", "2", "--batch-size", "20")
    fastconv(capsys, *words, "--augment", "shift", "--save", "whole.npz")
    step = train.Trainer.step

    def interrupted(self):
        if len(self.history["step_loss"]) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(train.Trainer, "step", interrupted)
    status, out, _ = fastconv(capsys, *words, "--augment", "shift")
    assert status == 130
    said = "stopped after 0 of 2 epochs and 40 of 48 images, saved; go on with: fastconv train --resume"
    assert said in out
    monkeypatch.setattr(train.Trainer, "step", step)
    status, _, err = fastconv(capsys, *words, "--augment", "shift")
    assert status == 2
    assert "lenet5.npz holds a training that is not finished: go on with it by --resume lenet5.npz" in err
    status, out, _ = fastconv(capsys, "train", "--resume", "lenet5.npz")
    assert status == 0
    assert "lenet5.npz: going on after 0 of 2 epochs and 40 of 48 images" in out
    a, b = np.load("lenet5.npz"), np.load("whole.npz")
    assert sorted(a.files) == sorted(b.files)
    different = {name for name in a.files if not np.array_equal(a[name], b[name])}
    assert different == {"history/seconds", "training/seconds"}
    assert signal.getsignal(signal.SIGINT) is handler
    status, out, _ = fastconv(capsys, *words, "--augment", "shift", "--resume")
    assert (status, out) == (0, "lenet5.npz: all 2 epochs are done\n")


def test_a_second_signal_ends_it_at_once():
    write_npz()

    class Stub:
        stop = False

    with pytest.raises(KeyboardInterrupt), train.stopped_by_signals(Stub) as received:
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        assert Stub.stop
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_signal_saves_a_checkpoint(capsys, number):
    write_npz()
    command = [sys.executable, "-u", "-m", "fastconv.tools.cli", "train", "--model", "mlp", "--threads", "1"]
    command += ["--data", "bars.npz", "--epochs", "1000000"]
    env = os.environ | {"PYTHONPATH": str(Path(fc.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        while not process.stdout.readline().startswith("epoch 3/"):
            assert process.poll() is None
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 128 + number
    assert "saved; go on with: fastconv train --resume mlp.npz" in rest
    assert not trained.read_about(Path("mlp.npz")).finished
    assert fastconv(capsys, "predict", "mlp.npz", *[write_folder() + "/lying"])[0] == 0


def test_the_bar_shows_loss_accuracy_and_speed(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    write_npz()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fastconv_words = ("train", "--model", "mlp", "--data", "bars.npz", "--epochs", "2")
    status, out, err = fastconv(capsys, *fastconv_words)
    assert status == 0
    assert "epoch 2/2: loss" in out
    assert "epoch 2/2, loss" in err
    assert "accuracy" in err
    assert "img/s" in err


def test_mnist_comes_from_openml(monkeypatch):
    sklearn = pytest.importorskip("sklearn.datasets")
    rows, labels = RNG.integers(0, 256, (70_000, 784)).astype(np.uint8), np.array(list("0123456789") * 7000)
    monkeypatch.setattr(sklearn, "fetch_openml", lambda *a, **k: (rows, labels))
    data = datasets.mnist()
    assert (data.x_train.shape, data.x_test.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    np.testing.assert_allclose(data.x_test[0].ravel(), rows[60_000] / 255, rtol=1e-6)
    assert data.y_train[:3].tolist() == [0, 1, 2]

    def fails(*a, **k):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn, "fetch_openml", fails)
    with pytest.raises(
        ValueError, match=r"could not be fetched from openml.org \(no route to host\): give an"
    ):
        datasets.mnist()


X, Y = bars(12)
GREY = {"x_train": X[:8], "y_train": Y[:8], "x_test": X[8:], "y_test": Y[8:]}
BAD_DATA = {
    "negative": ({"y_train": Y[:8] - 1}, "a label is -1: labels must number the classes from 0"),
    "far": ({"y_train": Y[:8] * 50}, "the largest label is 50, but y_train has only 2 different ones"),
    "test only": ({"y_test": Y[8:] + 1}, "y_test has labels up to 2, y_train up to 1"),
    "real labels": ({"y_train": Y[:8] / 1}, "integer labels (N,)"),
    "size": ({"x_train": X[:8, :20], "x_test": X[8:, :20]}, "the images are 1x20x28: lenet5 takes 1x28x28"),
    "two sizes": ({"x_test": X[8:, :20]}, "images are (1, 28, 28) to train on, (1, 20, 28) to test"),
    "colours": (
        {n: GREY[n][..., None].repeat(3, -1) for n in ("x_train", "x_test")},
        "the images are 3x28x28: lenet5 takes 1x28x28 or 1x32x32: --model names another net",
    ),
    "NaN": ({"x_train": X[:8] * np.float32("nan")}, "x holds NaN or infinite values"),
    "text": ({"x_train": X[:8].astype(str)}, "it must hold images of numbers"),
    "none": ({"x_train": X[:0], "y_train": Y[:0]}, "it must hold images of numbers"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_wrong_data_is_one_sentence(capsys, name):
    changed, said = BAD_DATA[name]
    np.savez("data.npz", **GREY | changed)
    status, _, err = fastconv(capsys, "train", "--model", "lenet5", "--data", "data.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
    assert err.startswith("fastconv train: ")
    assert not Path("lenet5.npz").exists()


LENET = ("--model", "lenet5", "--data", "bars.npz")
BAD_WORDS = [
    (("--model", "lenet5"), "--data is missing: give --model and --data, or --resume FILE"),
    (("--data", "bars.npz"), "--model is missing"),
    (("--model", "lenet5", "--data", "nowhere"), "--data is nowhere: it must be an .npz file, a folder"),
    ((*LENET, "--resize"), "--resize is given, --data is bars.npz: it is for a folder of image files"),
    ((*LENET, "--epochs", "0"), "--epochs is 0: it must be at least 1"),
    ((*LENET, "--batch-size", "-3"), "--batch-size is -3: it must be at least 1"),
    ((*LENET, "--lr", "-1"), "lr is -1.0: it must be at least 0"),
    ((*LENET, "--seed", "-1"), "--seed is -1: it must be at least 0"),
    ((*LENET, "--threads", "0"), "threads is 0"),
    ((*LENET, "--lr", "1e30"), "lower the learning rate or scale the inputs"),
    ((*LENET, "--save", "no/such/net.npz"), "--save is no/such/net.npz: its folder must exist"),
    ((*LENET, "--save", "bars.npz"), "bars.npz exists and is no checkpoint: choose another file by --save"),
    ((*LENET, "--save", "."), "--save is ., a folder: it must be a file"),
    (("--model", "lenet5-1998", "--data", "many.npz"), "the form '1998' has code words for 10 digits"),
    (
        ("--model", "alexnet", "--data", "bars.npz"),
        "the images are 1x28x28: alexnet takes 3x224x224 or larger",
    ),
    (("--resume",), "--resume names no file: give --resume FILE, --save FILE or --model"),
    (("--resume", "nothing.npz"), "--resume: there is no file nothing.npz"),
    (("--resume", "bars.npz"), "bars.npz does not say what it is of: it must be a checkpoint that `fastconv"),
    (
        ("--resume", "text.npz"),
        "text.npz cannot be read: it must be a checkpoint that `fastconv train` wrote",
    ),
    (
        ("--resume", "net.npz", "--model", "mlp"),
        "--model is mlp: net.npz is a checkpoint of lenet5: leave it",
    ),
    (("--resume", "net.npz", "--epochs", "9"), "--epochs is 9: net.npz was begun with 2: leave --epochs out"),
    (("--resume", "net.npz", "--data", "many.npz"), "many.npz is not what net.npz was trained on"),
]


@pytest.mark.parametrize(("words", "said"), BAD_WORDS, ids=[" ".join(words) for words, _ in BAD_WORDS])
def test_wrong_use_of_train_is_one_sentence(capsys, words, said):
    write_npz()
    write_npz("many.npz", y_train=np.arange(48) % 20)
    Path("text.npz").write_text("no archive")
    net = LeNet5(2)
    settings = trained.SETTINGS | {"data": "bars.npz", "epochs": 2, "lr": 7e-3}
    about = trained.About("lenet5", (1, 28, 28), ("0", "1"), settings, 0, finished=False)
    trained.save(Path("net.npz"), net, about, {})
    status, _, err = fastconv(capsys, "train", *words)
    assert (status, err.count("\n")) == (2, 1), err
    assert said in err


def test_a_checkpoint_that_lies_of_its_net_is_refused(capsys):
    settings = trained.SETTINGS | {"data": "bars.npz", "lr": 7e-3}
    about = trained.About("mlp", (1, 28, 28), ("0", "1"), settings, 0, finished=True)
    trained.save(Path("net.npz"), LeNet5(2), about, {})
    PIL.fromarray(X[0]).save("a.png")
    status, _, err = fastconv(capsys, "predict", "net.npz", "a.png")
    assert (status, err.count("\n")) == (2, 1)
    assert "net.npz is a checkpoint of another net: params/0.b is only in the file" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.npz", "cut.png"), "cut.png cannot be read (image file is truncated"),
        (
            ("net.npz", "text.png"),
            "text.png cannot be read (it is no image): replace it by a whole image file",
        ),
        (("net.npz", "nowhere.png"), "there is no file nowhere.png: name an image file"),
        (("net.npz", "empty"), "empty holds no images: name image files or folders of them"),
        (("net.npz", "a.png", "--top", "0"), "--top is 0: it must be at least 1"),
        (("nowhere.npz", "a.png"), "there is no file nowhere.npz: name a checkpoint of `fastconv train`"),
        (("a.png", "a.png"), "a.png cannot be read: it must be a checkpoint that `fastconv train` wrote"),
        (
            ("plain.npz", "a.png"),
            "plain.npz does not say what it is of: it must be a checkpoint that `fastconv",
        ),
    ],
)
def test_wrong_use_of_predict_is_one_sentence(capsys, words, said):
    net = LeNet5(2)
    settings = trained.SETTINGS | {"data": "bars.npz", "lr": 7e-3}
    about = trained.About("lenet5", (1, 28, 28), ("0", "1"), settings, 0, finished=True)
    trained.save(Path("net.npz"), net, about, {})
    net.save("plain.npz")
    PIL.fromarray(X[0]).save("a.png")
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:200])
    Path("text.png").write_text("no image")
    Path("empty").mkdir()
    status, _, err = fastconv(capsys, "predict", *words)
    assert (status, err.count("\n")) == (2, 1), err
    assert said in err


def test_folders_that_do_not_fit_are_one_sentence(capsys):
    def said(*words):
        status, _, err = fastconv(capsys, "train", "--model", "lenet5", "--data", "pictures", *words)
        assert (status, err.count("\n")) == (2, 1), err
        return err

    Path("pictures/one").mkdir(parents=True)
    assert "pictures has 1 folders of images: it must have one folder for each class, at least two" in said()
    write_folder()
    assert f"{Path('pictures/one')} holds 0 images: it must hold at least two, one for the test" in said()
    Path("pictures/one").rmdir()
    PIL.fromarray(X[0, :20]).save("pictures/lying/zz.png")
    assert "pictures/standing/00.png has 28x28 pixels, pictures/lying/01.png has" not in said()
    assert "zz.png has 20x28 pixels, pictures/lying/01.png has 28x28: all must have as many" in said()
    Path("pictures/lying/zz.png").write_bytes(b"\x89PNG broken")
    assert "zz.png cannot be read" in said("--resize")
    for part, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "c")):
        Path("pictures", part, name).mkdir(parents=True)
    assert "b, c is only in one of train and test: both need it" in said()


@pytest.mark.parametrize(
    ("module", "data", "said"),
    [
        ("PIL", "pictures", "reading images needs Pillow: pip install 'fastconv[images]'"),
        ("sklearn", "digits", "the digits data needs scikit-learn: pip install 'fastconv[digits]'"),
        ("sklearn", "mnist", "the mnist data needs scikit-learn: pip install 'fastconv[digits]'"),
        ("tqdm", "bars.npz", "the progress bar (or give --no-progress) needs tqdm: pip install 'fastconv["),
    ],
)
def test_missing_packages_are_named(capsys, monkeypatch, module, data, said):
    write_npz()
    write_folder()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name in [module, *(n for n in sys.modules if n.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = fastconv(capsys, "train", "--model", "lenet5", "--data", data)
    assert (status, err.count("\n")) == (2, 1), err
    assert said in err


def test_alexnet_is_trained_on_crops():
    x = RNG.random((3, 3, 260, 250), np.float32)
    assert nets.adapted("alexnet", x, "").shape == x.shape
    cut = nets.middle(x, 224)
    np.testing.assert_array_equal(cut, x[:, :, 18:242, 13:237])
    augment = nets.augmentation("alexnet", "none", x)
    assert augment(x, np.random.default_rng(0)).shape == (3, 3, 224, 224)
    with pytest.raises(ValueError, match="--augment is flip: alexnet has its paper's augmentations"):
        nets.augmentation("alexnet", "flip", x)
    grey = nets.adapted("resnet18", x[:, :1], "")
    np.testing.assert_array_equal(grey[:, 2], x[:, 0])


@pytest.mark.parametrize("model", nets.NETS)
def test_every_net_is_built_for_what_it_takes(model):
    net = nets.NETS[model]
    side, channels = net.crop or net.side or 32, net.channels or 1
    shape = (channels, side, side)
    assert net.fits(side, side)
    assert net.fits(net.digits, net.digits)
    assert net.digits % 8 == 0
    if model in ("mlp", "lenet5", "lenet5-1998"):
        assert net.build(shape, 10, 0)(np.zeros((1, *shape), np.float32)).shape == (1, 10)
