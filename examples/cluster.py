"""Build a pyramid on the workers of a Dask cluster, here two processes of this machine."""

import sys
from pathlib import Path

import multiscale_sampler as ms


def main():
    from distributed import Client, LocalCluster

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    ms.create_test_image(folder / "raw.zarr", "0", shape=(96, 128, 128), chunks=(32, 32, 32))
    image = ms.open_image(folder / "raw.zarr", "0", scale=0.5, units="micrometer")
    # For an existing cluster use Client("tcp://scheduler:8786"); the rest stays the same.
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        ms.write_pyramid(image, folder / "brain.ome.zarr", scale_factors=[2, 4], progress=True)
    tree = ms.open_pyramid(folder / "brain.ome.zarr")
    print({name: node["image"].shape for name, node in tree.children.items()})


# Worker processes import this file, and must not begin the build themselves.
if __name__ == "__main__":
    main()
