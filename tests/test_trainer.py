"""Trainer: a training that is stopped, written down and resumed ends bit for bit like one that is not."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.nn import Trainer, checkpoint, one_cycle, random_crop, random_shift

RNG = np.random.default_rng(0)
X, Y = RNG.random((30, 1, 6, 6), np.float32), np.arange(30) % 3


def net(seed=0):
    """With everything that has state of its own: batch statistics, dropout's random numbers."""
    return fc.Sequential(
        *(fc.Conv2d(1, 4, 3, padding=1), fc.BatchNorm2d(4), fc.ReLU(), fc.MaxPool2d(2)),
        *(fc.Flatten(), fc.Dropout(0.3), fc.Linear(36, 3)),
        seed=seed,
    )


def trainer(a_net, optimizer=None, **changed):
    settings = {
        "epochs": 3,
        "batch_size": 8,
        "optimizer": optimizer or fc.Adam(0.01),
        "schedule": one_cycle(),
        "augment": random_shift(1),
        "validation_data": (X[:9], Y[:9]),
        "sample_weight": np.linspace(0.5, 1.5, 30),
        "seed": 7,
    }
    return Trainer(a_net, X, Y, **settings | changed)


def stop_after(training, steps):
    """Set `stop` in the middle of that step, as a signal handler does."""
    whole, count = training.step, 0

    def step():
        nonlocal count
        count += 1
        training.stop = count == steps
        return whole()

    training.step = step
    training.run()
    training.step = whole


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("optimizer", [lambda: fc.Adam(0.01), lambda: fc.SGD(0.1, 0.9), lambda: fc.SGD(0.1)])
@pytest.mark.parametrize("at", [(1,), (4,), (3, 2), (12,)])
def test_resumed_is_the_same_as_never_stopped(at, optimizer, tmp_path):
    whole = trainer(net(), optimizer())
    whole.run()
    training, path = trainer(net(), optimizer()), tmp_path / "net.npz"
    for steps in at:
        stop_after(training, steps)
        checkpoint.save(path, training.net, training.state())
        # What goes on is built anew, from another start.
        training = trainer(net(seed=1), optimizer(), seed=99)
        training.restore(checkpoint.load(path, training.net))
    assert training.finished == (sum(at) == 12)
    training.run()
    assert training.finished
    assert equal(checkpoint.tensors(training.net), checkpoint.tensors(whole.net))
    same, other = training.history, whole.history
    assert all(same[name] == other[name] for name in other if name != "seconds")
    assert len(same["seconds"]) == 3


def test_stopped_within_an_epoch():
    training = trainer(net())
    stop_after(training, 2)
    assert (training.epoch, training.done, training.finished) == (0, 16, False)
    assert len(training.history["step_loss"]) == 2
    assert training.history["loss"] == []
    assert not training.net.training
    assert training.optimizer.lr == 0.01


def test_on_epoch_ends_it_and_run_goes_on():
    training = trainer(net(), on_epoch=lambda history: len(history["loss"]) == 2)
    assert len(training.run()["loss"]) == 2
    assert not training.finished
    assert len(training.run()["loss"]) == 3
    assert len(training.run()["loss"]) == 3


def test_other_generators_are_written_down_too():
    for make in (np.random.MT19937, np.random.Philox, np.random.SFC64):
        training = trainer(net(), seed=np.random.Generator(make(1)))
        stop_after(training, 3)
        again = trainer(net(), seed=np.random.Generator(make(2)))
        again.restore(training.state())
        assert again.rng.random() == training.rng.random()


def test_a_state_of_other_data_is_refused():
    training = trainer(net())
    stop_after(training, 5)
    state = training.state()
    with pytest.raises(ValueError, match="restore: the state is of 30 images, epoch 1: this training has 20"):
        Trainer(net(), X[:20], Y[:20], epochs=3).restore(state)
    training.run()
    with pytest.raises(ValueError, match="epoch 3: this training has 30 images, 2 epochs"):
        trainer(net(), epochs=2).restore(training.state())


def test_the_net_alone_is_loaded_from_a_whole_checkpoint(tmp_path):
    training = trainer(net())
    stop_after(training, 2)
    checkpoint.save(tmp_path / "net.npz", training.net, training.state())
    twin = net(seed=5).load(tmp_path / "net.npz")
    assert equal(checkpoint.tensors(twin), checkpoint.tensors(training.net))
    np.savez(tmp_path / "images.npz", x_train=X)
    with pytest.raises(ValueError, match=r"images.npz holds no parameters: it must be an .npz file"):
        twin.load(tmp_path / "images.npz")


def test_images_larger_than_the_net_takes_are_cropped():
    larger = RNG.random((10, 1, 9, 8), np.float32)
    history = net().fit(larger, np.arange(10) % 3, epochs=1, augment=random_crop(6), seed=0)
    assert len(history["step_loss"]) == 1
    with pytest.raises(ValueError, match=r"Linear: x has shape \(0, 64\)"):
        net().fit(larger, np.arange(10) % 3, epochs=1)
