"""`fastconv digits` end to end, in the small: training, agreement of the kernels, report, exit status."""

import argparse

import numpy as np
import pytest

import fastconv as fc
from fastconv.tools import agreement, datasets, digits

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small gain nothing from two threads, and lose much where the tests share the machine."""
    with fc.use(threads=1):
        yield


def arguments(*words):
    parser = argparse.ArgumentParser()
    digits.add_arguments(parser)
    return parser.parse_args(words)


def test_data_is_split_in_proportion_and_scaled():
    data = datasets.digits(3)
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert data.x_train.dtype == np.float32
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    shares = np.bincount(data.y_train) / 1437 - np.bincount(data.y_test) / 360
    assert np.abs(shares).max() < 0.002
    assert not np.array_equal(data.y_test, datasets.digits(4).y_test)


def test_the_net_learns_digits():
    training = digits.train(seed=0, epochs=4)
    assert training.accuracy > 0.93
    assert training.accuracy == training.net.evaluate(training.data.x_test, training.data.y_test)["accuracy"]


def test_every_kernel_follows_the_reference():
    rows = agreement.agreement(digits.digits_net, agreement.available_kernels(), datasets.digits(), steps=6)
    assert {row.kernel for row in rows} == set(agreement.available_kernels())
    assert {row.dtype for row in rows} == {"float32", "float64"}
    assert [f"{r.kernel} {r.dtype}: {r.deviation}" for r in rows if not r.agrees] == []
    assert all(row.deviation == 0 for row in rows if row.kernel == "reference")
    assert {r.net for r in rows if "depthwise" not in r.kernel} == {"digits"}


def test_run_trains_compares_and_draws(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(digits, "STEPS", 2)
    monkeypatch.setattr(digits, "available_kernels", lambda: ["reference"])
    report = tmp_path / "report.png"
    status = digits.run(arguments("--seeds", "2", "--epochs", "1", "--report", str(report), "--threads", "1"))
    shown = capsys.readouterr().out
    assert status == 0
    assert report.read_bytes().startswith(b"\x89PNG")
    assert "mean of 2: " in shown
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("reference")] == [
        "agrees",
        "agrees",
    ]


def test_a_kernel_that_deviates_fails_the_run(tmp_path, capsys, monkeypatch):
    def curve(kernel, make, dtype, data, steps):
        return [1.0, 0.5 if kernel == "reference" else 0.5 + 1e-3], 0.0

    monkeypatch.setattr(agreement, "loss_curve", curve)
    monkeypatch.setattr(digits, "available_kernels", lambda: ["reference", "made.up"])
    status = digits.run(arguments("--seeds", "1", "--epochs", "1", "--report", str(tmp_path / "report.png")))
    assert status == 1
    assert "These deviate: made.up in float64, made.up in float32" in capsys.readouterr().out


def test_pixels_become_channels():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    y = agreement.PixelsToChannels()(x)
    np.testing.assert_array_equal(y[0, :, 0, 1], [2, 3, 6, 7])


def test_nan_losses_do_not_agree():
    assert not agreement.Agreement("made.up", "digits", "float32", np.nan, np.nan, 1e-4, 0.0).agrees


@pytest.mark.parametrize("words", [("--seeds", "0"), ("--epochs", "-1"), ("--kernel", "no.such")])
def test_wrong_arguments_are_refused_before_training(words, tmp_path):
    with pytest.raises(ValueError, match=r"must be"):
        digits.run(arguments(*words, "--report", str(tmp_path / "report.png")))
    assert list(tmp_path.iterdir()) == []


def test_npz_data(tmp_path):
    path = tmp_path / "data.npz"
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    labels = np.array([0, 2])
    np.savez(
        path, x_train=images, y_train=labels, x_test=images[:1, ..., None].repeat(3, -1), y_test=labels[:1]
    )
    data = datasets.npz(path)
    assert data.x_train.shape == (2, 1, 3, 4)
    assert data.x_test.shape == (1, 3, 3, 4)
    assert data.classes == ("0", "1", "2")
    np.testing.assert_allclose(data.x_train[1, 0], images[1] / 255, rtol=1e-6)
    assert data.x_train.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.ones((2, 3, 4))}, "has no y_train, x_test, y_test: it must hold x_train, y_train"),
        (
            {
                "x_train": np.ones((2, 3)),
                "y_train": np.ones(2, int),
                "x_test": np.ones(1),
                "y_test": np.ones(1),
            },
            r"x_train is \(2, 3\), y_train is",
        ),
        (
            {
                "x_train": np.ones((2, 3, 4)),
                "y_train": np.ones(2),
                "x_test": np.ones(1),
                "y_test": np.ones(1),
            },
            r"y_train is \(2,\) float64: they must be images \(N, H, W\) or ",
        ),
    ],
)
def test_wrong_data_files_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        datasets.npz(tmp_path / "data.npz")


def test_broken_data_files_are_refused(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        ValueError, match=r"data.npz cannot be read: it must be an .npz file with x_train, y_train"
    ):
        datasets.npz(tmp_path / "data.npz")


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(
        ImportError, match=r"the digits data needs scikit-learn: pip install 'fastconv\[digits\]'"
    ):
        datasets.digits()


def test_float64_and_float32_start_alike():
    data = datasets.digits()
    single, double = (digits.digits_net().astype(t) for t in ("float32", "float64"))
    with fc.use(kernel="reference"):
        np.testing.assert_allclose(single(data.x_test[:4]), double(data.x_test[:4].astype(float)), atol=1e-5)
