"""The lecture: one page that needs no other file, whose numbers come from the experiments."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fastconv as fc
from fastconv.tools import cli

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from fastconv.lecture import (
    CHAPTERS,
    byhand,
    connections,
    convolution,
    edges,
    lecture,
    material,
    networks,
    pooling,
    vanishing,
)
from fastconv.lecture import activations as activation_chapter
from fastconv.lecture.material import enlarge, shifted
from fastconv.lecture.page import NUMBER, table


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small gain nothing from two threads, and lose much where the tests share the machine."""
    with fc.use(threads=1):
        yield


@pytest.fixture(scope="module")
def quick():
    return material(quick=True)


class Outline(HTMLParser):
    """Counts tags, keeps what pictures show, and checks that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.counts, self.pictures, self.links = [], {}, [], []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        attrs = dict(attrs)
        if tag == "img":
            self.pictures.append(attrs)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_chapter_is_whole_and_needs_no_other_file(name, quick):
    page = lecture(quick, [name])
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.counts["section"] == 1
    assert outline.counts["details"] >= 1
    assert all(link.startswith(("data:image/", "#chapter-")) for link in outline.links)
    assert all(len(picture["src"]) > 1000 for picture in outline.pictures)
    assert outline.counts["figure"] == len(outline.pictures) > 0
    assert "$" not in re.sub(r"<pre>.*?</pre>|data:[^\"]*", "", page, flags=re.DOTALL)
    assert "nan" not in re.sub("<[^>]*>", " ", page).lower().split()


def test_small_nets_run_on_one_thread():
    from threadpoolctl import threadpool_info

    from fastconv.dispatch import settings

    def threads():
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        return settings.current().threads, *blas

    with fc.use(threads=2):
        before = threads()
        with fc.lecture.threads_for("inside"):
            assert set(threads()) == {1}
        with fc.lecture.threads_for("networks"):
            assert threads() == before


def test_command_writes_the_page(tmp_path, capsys):
    out = tmp_path / "page.html"
    assert cli.main(["lecture", "--quick", "--chapters", "byhand", "--out", str(out), "--threads", "1"]) == 0
    assert out.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "quick run" in out.read_text("utf-8")
    said = capsys.readouterr().out
    assert said.startswith("byhand")
    assert str(out) in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "page.png"], "--out: page.png is no HTML file: its name must end in .html"),
        (["--out", "no/such/folder/page.html"], "--out: there is no folder"),
        (["--chapters", "cooking"], "lecture: chapter 'cooking': it must be one of activations, vanishing"),
        (["--seeds", "0"], "lecture: --seeds is 0"),
        (["--data", "no.npz"], "no.npz"),
    ],
)
def test_wrong_use_is_one_sentence(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lecture", "--quick", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["matplotlib", "sklearn"])
def test_missing_packages_are_named(package, tmp_path, monkeypatch, capsys):
    for module in [name for name in __import__("sys").modules if name.split(".")[0] == package]:
        monkeypatch.setitem(__import__("sys").modules, module, None)
    assert cli.main(["lecture", "--quick", "--out", str(tmp_path / "page.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'fastconv[" in line
    assert list(tmp_path.iterdir()) == []


def test_own_digits(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20) % 10
    path = tmp_path / "own.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    given = material(path, quick=True)
    assert given.data.x_train.shape == (20, 1, 28, 28)
    assert given.enlarged().x_test is given.data.x_test
    np.testing.assert_array_equal(given.digit(3), given.data.x_test[3, 0])
    np.savez(path, x_train=images[:, :8, :8], y_train=labels, x_test=images[:10, :8, :8], y_test=labels[:10])
    with pytest.raises(ValueError, match=r"own.npz holds images of shape \(1, 8, 8\) in 10 classes"):
        material(path)


def test_enlarged_digits_have_a_margin_and_stay_what_they_are(quick):
    x = quick.data.x_test[:5]
    larger = enlarge(x)
    assert larger.shape == (5, 1, 28, 28)
    assert larger.dtype == np.float32
    assert not larger[..., :4].any()
    assert not larger[:, :, 24:].any()
    # each pixel of 8x8 covers 2.5 of the 20x20
    means = larger[:, 0, 4:24, 4:24].reshape(5, 4, 5, 4, 5).mean((2, 4))
    np.testing.assert_allclose(means, x[:, 0].reshape(5, 4, 2, 4, 2).mean((2, 4)), atol=0.12)
    flat = enlarge(np.full((1, 1, 8, 8), 0.5, np.float32))
    np.testing.assert_allclose(flat[0, 0, 4:24, 4:24], 0.5, rtol=1e-5)


def test_shifted_images_lose_what_leaves():
    x = np.arange(1.0, 5.0).reshape(1, 1, 1, 4)
    assert shifted(x, 1).ravel().tolist() == [0, 1, 2, 3]
    assert shifted(x, -2).ravel().tolist() == [3, 4, 0, 0]
    assert shifted(x, 0).ravel().tolist() == [1, 2, 3, 4]


def test_columns_of_numbers_are_set_to_the_right():
    for cell in ("1", "-2.5", "9.6e-06", "1,234", "98.6%", "97.1% ± 0.3%", "12.3 ms", "7 ✓", "0, 0"):
        assert NUMBER.fullmatch(cell), cell
    for cell in ("none", "1 − y²", "28×28", "⌊(28", "60 million", ""):
        assert not NUMBER.fullmatch(cell), cell
    assert "<td>1</td>" in table(("", ""), [("a", 1), ("b", "one")])
    assert "<td class=n>1</td>" in table(("", ""), [("a", 1), ("b", 2)])


def test_slopes_are_the_derivatives():
    smooth = [layer for layer, _, _ in activation_chapter.ACTIVATIONS[1:]]
    measured = {type(layer).__name__: activation_chapter.slopes(layer) for layer in smooth}
    largest = {name: slope for name, (slope, _) in measured.items()}
    assert largest == pytest.approx({"Sigmoid": 0.25, "Tanh": 1, "ReLU": 1, "LeakyReLU": 1}, abs=1e-4)
    assert all(error < 1e-8 for _, error in measured.values())
    assert activation_chapter.step_error().startswith("ValueError: Step.backward: the step has no derivative")


def test_the_sigmoids_gradient_vanishes_and_the_others_do_not(quick):
    data = quick.data
    ratios = {}
    for activation in vanishing.FOUR:
        net = vanishing.deep_net(activation, data)
        run = vanishing.train(net, data, fc.SGD(0.01, momentum=0.9), 1)
        assert run.norms.shape == (23, vanishing.HIDDEN + 1)
        ratios[activation.__name__] = run.norms[0, 0] / run.norms[0, -1]
    assert ratios["Sigmoid"] < 4.0**-vanishing.HIDDEN * 10
    assert all(0.1 < ratios[name] < 10 for name in ("Tanh", "ReLU", "LeakyReLU"))


def test_dead_units_are_those_that_never_answer():
    net = vanishing.MLP(2, 4, 2, seed=0)
    net.params["1.w"][:] = 0
    net.params["1.b"][:] = [1, -1, 0, 2]
    assert vanishing.dead_share(net, np.ones((3, 2), np.float32)) == 0.5


@pytest.mark.parametrize("case", convolution.SIZES, ids=[case[0] for case in convolution.SIZES])
def test_sizes_of_the_formula_are_those_of_conv2d(case):
    *_, numbers, size, shape = convolution.sizes()[convolution.SIZES.index(case)]
    assert shape == f"{size}×{size}"
    for sign, operator in (("⌊", ""), ("⌋", ""), ("−", "-"), ("·", "*"), (" / ", " // ")):
        numbers = numbers.replace(sign, operator)
    assert eval(numbers) == size


def test_the_sliding_window_is_conv2d():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, (7, 7)).astype("f"), rng.integers(-4, 5, (3, 3)).astype("f")
    for stride in (1, 2):
        y = fc.conv2d(x[None, None], w[None, None], stride=stride)[0, 0]
        np.testing.assert_array_equal(convolution.slide(x, w, stride), y)


def test_edges_answer_at_edges_alone():
    image = np.zeros((6, 8), np.float32)
    image[:, 4:] = 1
    answer = edges.respond(image, edges.SOBEL)
    np.testing.assert_array_equal(answer[:, 3:5], 4)
    assert not np.delete(answer, (3, 4), 1).any()
    assert not edges.respond(image, edges.SOBEL.T.copy()).any()
    np.testing.assert_array_equal(edges.edge_strength(image), abs(answer))
    for name, (w, _) in edges.FILTERS.items():
        assert w.sum() == pytest.approx(0 if name in edges.SIGNED else 1)


def test_pooling_forgives_moves(quick):
    digits = quick.enlarged().x_test
    changes = [pooling.change(digits, pool) for pool in (fc.MaxPool2d(7), fc.MaxPool2d(2), np.asarray)]
    assert changes == sorted(changes)


def test_sums_written_out_are_fastconvs():
    x, w, g = (a[None, None] for a in (byhand.X, byhand.F, byhand.G))
    for terms, found in (
        (byhand.forward_terms, fc.conv2d(x, w)),
        (byhand.filter_terms, fc.conv2d_filter_grad(x, g, w.shape)),
        (byhand.input_terms, fc.conv2d_input_grad(g, w, x.shape)),
    ):
        for at in np.ndindex(found.shape[2:]):
            assert byhand.evaluate(terms(*at)) == found[0, 0][at]
    assert "✗" not in byhand.chapter(None).body
    assert byhand.comparison("O", byhand.forward_terms, (2, 2), fc.conv2d(x, w)[0, 0] + 1).count("✗") == 4


def test_weights_of_the_courses_example(quick):
    assert fc.Sequential(fc.Conv2d(3, 2, 4, bias=False)).summary((3, 6, 6)).total == 96
    rows = {image: (dense, conv) for image, dense, conv in connections.growth()}
    assert rows["32×32×3"] == (f"{64 * 3073:,}", "1,792")
    body = connections.chapter(quick).body
    assert "2·4·4·3 = 96 weights" in body
    assert "108·18 = 1,944" in body


def test_the_verdict_says_what_the_numbers_say():
    still, moved = connections.Result(0.9, 0.5), connections.Result(0.8, 0.6)
    words = connections.verdict({"fully connected": [still], "convolutional": [moved]}, 100, 50)
    assert "0.50 times the parameters" in words
    assert "worse by 10.0 points" in words
    assert "by 10.0 points the other way round" in words


def test_networks_have_the_published_counts(quick):
    counts = {row[0]: row[3] for row in networks.counted(quick)}
    assert counts["LeNet-5, as published"] == "60,000"
    assert counts["AlexNet"] == "60,965,224"
    assert counts["ResNet-18"] == "11,689,512"
