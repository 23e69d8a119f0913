"""What other processes do to a shared list."""


def append_all(shared, who, count):
    for k in range(count):
        shared.append((who, k))


def extend_by_tens(shared, count):
    for k in range(count):
        shared.extend([k] * 10)
        if len(shared) > 500:
            del shared[:250]


def increment_all(shared, count):
    for _ in range(count):
        shared.increment(0)
        shared.apply(1, lambda value: value + "x")


def report(shared, queue):
    shared.append("seen")
    queue.put((shared[0], len(shared), shared.tolist()))


def swap_ends(shared, count):
    for _ in range(count):
        with shared.atomic():
            shared[0], shared[-1] = shared[-1], shared[0]


def total(shared, k):
    shared.append(k)
    return sum(shared[:3])
