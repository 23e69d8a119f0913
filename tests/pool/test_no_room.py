"""Content that finds no room: the error says what was wanted and what is free, and what is smaller still fits."""

import pytest

from tests.helpers import can_have_small_memory, run_in_small_memory

PROGRAM = """
    import os

    import numpy as np

    import XME
    from XME._core import memory, names, program
    from XME.errors import SharedMemoryFull

    MB = 1 << 20

    def length(array):
        return len(array)

    def make(count):
        return np.ones(count, np.uint8)

    def free():
        stat = os.statvfs(names.FOLDER)
        return stat.f_bavail * stat.f_frsize

    def bytes_of(megabytes):
        return np.ones(megabytes * MB, np.uint8)

    def check(title, wanted, act, smaller):
        xme.clean()
        error = None
        try:
            act()
        except SharedMemoryFull as found:
            # Kept, as a program does that shows it later: its traceback must not keep memory.
            error = found
        xme.clean()
        assert error is not None, title
        assert wanted * MB <= error.wanted < (wanted + 2) * MB, (title, error)
        assert error.total == 64 * MB, (title, error)
        assert abs(error.free - free()) < 2 * MB, (title, error, free())
        assert f"{error.wanted:,} bytes" in str(error) and f"{error.free:,} of" in str(error), (title, error)
        smaller()
        print(title, end=", ", flush=True)

    if __name__ == "__main__":
        xme = XME.XME(length, make, pnum=2, start_method="fork")
        big, small = bytes_of(80), bytes_of(40)
        halves = [bytes_of(36), bytes_of(36)]

        def run(number, value):
            return xme.funs([number], [[value]])[0]

        # What is there when workers start stays mapped in them.
        run(0, XME.Array(["first", "second"]))
        check("common", 80, lambda: run(0, big), lambda: run(0, small))
        check("split", 80, lambda: run(0, XME.Array(big.reshape(2, -1))), lambda: run(0, XME.Array([small, [2]])))
        check("split in parts", 72, lambda: run(0, XME.Array(halves)), lambda: run(0, XME.Array([halves[0], [2]])))
        check("several", 72, lambda: xme.funs([0, 0], [[half] for half in halves]), lambda: run(0, halves[0]))
        check("result", 80, lambda: run(1, 80 * MB), lambda: run(1, 40 * MB))
        check("array", 80, lambda: XME.xmem_array(big), lambda: XME.xmem_array(small))

        shared = XME.xmem_dict()
        shared["kept"] = bytes_of(10)
        check("value", 80, lambda: shared.update(big=big), lambda: shared.update(big=small))
        assert sorted(shared) == ["big", "kept"] and int(shared["big"].sum()) == 40 * MB
        del shared["big"]
        check("bytes", 80, lambda: shared.update(big=bytes(80 * MB)), lambda: shared.update(big=bytes(5 * MB)))
        listed = XME.xmem_list()
        check("item", 80, lambda: listed.append(big), lambda: listed.append(bytes_of(5)))
        print("alive")
"""


@pytest.mark.skipif(not can_have_small_memory(), reason="no right to make a mount namespace with a small /dev/shm")
def test_what_finds_no_room_says_what_is_free_without_it(tmp_path):
    done = run_in_small_memory(PROGRAM, 64, tmp_path)

    assert done.stdout.endswith("alive\n"), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
