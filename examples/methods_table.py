"""Print the README's table of methods."""

from multiscale_sampler.methods.reducers import REDUCERS

POSITIONS = {"center": "centre", "first": "first voxel"}
KINDS = {"b": "bool", "iu": "integers", "f": "floats", "c": "complex", "mM": "times"}


def main() -> None:
    print("| method | a voxel of a level is | levels | at the window's | of |")
    print("|---|---|---|---|---|")
    for name, reducer in REDUCERS.items():
        taken = ", ".join(word for kinds, word in KINDS.items() if set(kinds) <= set(reducer.kinds))
        position = POSITIONS[reducer.position]
        print(f"| `{name}` | {reducer.summary} | {reducer.cascade} | {position} | {taken} |")


if __name__ == "__main__":
    main()
