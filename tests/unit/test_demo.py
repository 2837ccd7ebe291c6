"""The demo: both implementations against a plain double loop, the race, the file it writes, the command line."""

import io
import sys
from math import ceil, exp

import numpy as np
import pytest

from fastpar import demo
from fastpar.demo import _convolve, picture, race, rows, scene
from fastpar.demo.errors import DemoError
from fastpar.demo.race import Contender

HEIGHT, WIDTH = 7, 11
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def small(rng):
    """A scene of random colours, its widths from next to nothing to half the image."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    return scene.Scene.of(numbers.random((3, HEIGHT, WIDTH)), numbers.uniform(0.1, 3.0, (HEIGHT, WIDTH)))


@pytest.fixture(scope="module")
def matplotlib():
    """matplotlib, with the font files open that it keeps open from its first drawing on."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.text(0, 0, "font")
    figure.savefig(io.BytesIO())


def oracle(image, widths):
    """The definition, one pixel after another: borders are repeated outwards, a Gaussian ends at three widths."""
    height, width = widths.shape
    blurred = np.zeros_like(image)
    for y, x in np.ndindex(height, width):
        reach = ceil(3 * widths[y, x])
        total = 0.0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                weight = exp(-(dy**2 + dx**2) / (2 * widths[y, x] ** 2))
                near_y, near_x = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                blurred[:, y, x] += weight * image[:, near_y, near_x]
                total += weight
        blurred[:, y, x] /= total
    return blurred


class TestRows:
    @pytest.mark.parametrize("blur_row", [rows.blur_row, _convolve.blur_row], ids=["numpy", "cython"])
    def test_equals_the_definition(self, small, blur_row):
        blurred = np.stack([blur_row(small.padded, small.widths, y) for y in range(HEIGHT)], axis=1)
        np.testing.assert_allclose(blurred, oracle(small.image, small.widths), rtol=0, atol=1e-13)

    @pytest.mark.parametrize("blur_row", [rows.blur_row, _convolve.blur_row], ids=["numpy", "cython"])
    def test_takes_read_only_arrays(self, small, blur_row):
        small.padded.flags.writeable = small.widths.flags.writeable = False
        assert blur_row(small.padded, small.widths, 0).shape == (3, WIDTH)

    @pytest.mark.parametrize("y", [-1, HEIGHT])
    def test_cython_refuses_rows_outside(self, small, y):
        with pytest.raises(ValueError, match=f"no row {y}"):
            _convolve.blur_row(small.padded, small.widths, y)

    @pytest.mark.parametrize("width", [100.0, 1e300, float("inf"), float("nan"), -1.0, 0.0])
    def test_cython_refuses_widths_that_do_not_fit(self, small, width):
        small.widths[2, 3] = width
        with pytest.raises(ValueError, match="row 2"):
            _convolve.blur_row(small.padded, small.widths, 2)


class TestScene:
    def test_widths_are_least_at_the_face_and_most_in_the_corners(self):
        widths = scene.focus_widths(600, 512)
        assert widths[228, 266] == scene.SHARPEST == widths.min()
        assert widths[-1, 0] == widths.max() == scene.WIDEST

    @pytest.mark.usefixtures("matplotlib")
    def test_photograph_shrinks(self):
        full, half = scene.photograph(), scene.photograph(2)
        assert full.shape == (3, 600, 512)
        assert half.shape == (3, 300, 256)
        assert half[0, 0, 0] == pytest.approx(full[0, :2, :2].mean())

    def test_without_matplotlib(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.cbook", None)
        assert demo.main(["--quick"]) == 1
        assert capsys.readouterr().err == f"fastpar demo: {scene.MISSING}\n"


class TestRace:
    def test_all_agree(self, small):
        announced = []
        finishes = race.run(small, 2, announce=announced.append)
        assert announced == [finish.contender for finish in finishes] == list(race.CONTENDERS)
        assert all(finish.seconds > 0 for finish in finishes)
        assert [finish.speed_up for finish in finishes if finish.contender.is_serial] == [1.0, 1.0]
        assert "bit for bit" in race.agreement(finishes)

    def test_table(self, small):
        head, *lines = race.table(race.run(small, 2)).splitlines()
        assert head.endswith("against NumPy serial")
        assert [line.split()[0] for line in lines] == ["NumPy"] * 3 + ["Cython"] * 4
        assert {len(line) for line in lines} == {len(head)}

    def test_a_flipped_bit_is_noticed(self, small):
        def nearly(padded, widths, y):
            return np.nextafter(rows.blur_row(padded, widths, y), 2)

        contenders = [Contender("NumPy", "serial", rows.blur_row), Contender("NumPy", "threading", nearly)]
        with pytest.raises(DemoError, match="NumPy on threading does not give, bit for bit"):
            race.run(small, 2, contenders)

    def test_another_image_is_noticed(self, small):
        def brighter(padded, widths, y):
            return rows.blur_row(padded, widths, y) + 1e-9

        contenders = [Contender("NumPy", "serial", rows.blur_row), Contender("Bright", "serial", brighter)]
        with pytest.raises(DemoError, match="Bright on serial gives another image than NumPy"):
            race.run(small, 2, contenders)


class TestDestination:
    def test_next_free_name(self, tmp_path):
        assert picture.destination(None, tmp_path) == tmp_path / "fastpar-demo.png"
        (tmp_path / "fastpar-demo.png").touch()
        (tmp_path / "fastpar-demo-2.png").touch()
        assert picture.destination(None, tmp_path) == tmp_path / "fastpar-demo-3.png"

    def test_leaves_no_trace(self, tmp_path):
        picture.destination(tmp_path / "a.png")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing/a.png", "No such file or directory"),
            ("file/a.png", "Not a directory"),
            ("directory", "is a directory"),
        ],
    )
    def test_unwritable(self, tmp_path, name, message):
        (tmp_path / "file").touch()
        (tmp_path / "directory").mkdir()
        with pytest.raises(DemoError, match=message):
            picture.destination(tmp_path / name)

    def test_a_failed_picture_is_no_file(self, tmp_path):
        class FullDisk:
            def savefig(self, path, **_):
                path.write_bytes(PNG)
                raise OSError(28, "No space left on device")

        (tmp_path / "a.png").write_bytes(b"older")
        with pytest.raises(DemoError, match="No space left on device"):
            picture.save(FullDisk(), tmp_path / "a.png")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


class TestMain:
    @pytest.mark.slow
    @pytest.mark.usefixtures("matplotlib")
    def test_writes_the_table_and_the_picture(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert demo.main(["--quick", "--n-jobs", "2"]) == 0
        out, err = capsys.readouterr()
        assert "2 workers" in out
        assert "Cython nogil" in out
        assert "Hopper" in out
        assert "300/300" in err
        assert f"Picture: {tmp_path / 'fastpar-demo.png'}\n" in out
        assert [path.name for path in tmp_path.iterdir()] == ["fastpar-demo.png"]
        assert (tmp_path / "fastpar-demo.png").read_bytes().startswith(PNG)

    @pytest.mark.slow
    @pytest.mark.usefixtures("matplotlib")
    def test_says_that_it_replaced_a_file(self, tmp_path, small, monkeypatch, capsys):
        monkeypatch.setattr(scene, "portrait", lambda **_: small)
        path = tmp_path / "mine.png"
        path.touch()
        assert demo.main(["--out", str(path), "--n-jobs", "1"]) == 0
        out = capsys.readouterr().out
        assert "1 worker on" in out
        assert out.endswith(f"Picture: {path} (replaced)\n")
        assert path.read_bytes().startswith(PNG)

    def test_finds_out_before_the_work_that_it_cannot_write(self, tmp_path, small, monkeypatch, capsys):
        monkeypatch.setattr(scene, "portrait", lambda **_: small)
        monkeypatch.setattr(race, "run", None)
        assert demo.main(["--out", str(tmp_path / "no" / "a.png")]) == 1
        assert "cannot write" in capsys.readouterr().err

    def test_ctrl_c(self, tmp_path, small, monkeypatch, capsys):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(scene, "portrait", lambda **_: small)
        monkeypatch.setattr(race, "run", interrupted)
        assert demo.main([]) == 130
        assert "stopped" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--n-jobs", "0"], "whole number from 1 to 256, or -1"),
            (["--n-jobs", "two"], "not 'two'"),
            (["--n-jobs", "1e9"], "not '1e9'"),
            (["--n-jobs", "100000"], "not '100000'"),
            (["--out", "picture.jpg"], "must end in .png"),
            (["--fast"], "unrecognized arguments: --fast"),
        ],
    )
    def test_wrong_arguments(self, capsys, arguments, message):
        with pytest.raises(SystemExit) as exit_:
            demo.main(arguments)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
