"""The picture is the same at any number of threads."""

import mandelbrot


def test_threads_do_not_show():
    alone = mandelbrot.render(200, 300, 500, 1)
    assert len(alone) == 200 * 300 * 2
    for n_threads in (2, 5):
        assert mandelbrot.render(200, 300, 500, n_threads) == alone
    assert mandelbrot.render(0, 300, 500, 2) == b""


if __name__ == "__main__":
    test_threads_do_not_show()
    print("ok")
