"""A client of the app's store as a process of its own, to be killed: writes answers and says which were acknowledged.

`python store_writer.py STORE_MODULE DATABASE PERSON FIRST`: answers with the ids FIRST, FIRST + 1, … until killed; a
line on stdout for each that is on the disk. The module is loaded by its path, so that starting takes no second.
"""

import importlib.util
import sys


def load_store(path: str):
    spec = importlib.util.spec_from_file_location("store", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["store"] = module
    spec.loader.exec_module(module)
    return module


def main(module: str, database: str, person: str, first: str) -> None:
    store_module = load_store(module)
    store = store_module.Store(database)
    number = int(first)
    while True:
        store.add(person, store_module.Answer(f"{person}-{number}", "rating", f"image {number}", score=number % 5 + 1))
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
