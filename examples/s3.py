"""Build from one object store to another: s3.py s3://bucket/raw.zarr s3://bucket/brain.ome.zarr [ENDPOINT]."""

import sys

import multiscale_sampler as ms

source, target, *endpoint = sys.argv[1:]
# Options of s3fs: key, secret, anon, profile, ... Its defaults come from the environment and ~/.aws.
options = {"endpoint_url": endpoint[0]} if endpoint else {}

image = ms.open_image(source, storage_options=options)
plan = ms.plan_pyramid(image, shards=128)
print(plan)

# resume=True continues an interrupted build, or begins a new one.
ms.write_pyramid(image, target, shards=128, resume=True, progress=True, storage_options=options)
print(ms.validate(target, storage_options=options))

# Only the coarsest level is transferred.
tree = ms.open_pyramid(target, storage_options=options)
coarsest = tree[f"scale{len(plan.levels) - 1}"]
print(coarsest.to_dataset().compute())
